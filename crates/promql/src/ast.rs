//! The syntax tree. Every node has the span of the text that it came from.

use model::Matcher;

/// Half-open range of byte positions in the query text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

/// A node with its place in the text.
#[derive(Debug, Clone, PartialEq)]
pub struct Expr {
    /// What it is.
    pub node: Node,
    /// Where it stands.
    pub span: Span,
}

/// The kinds of node.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// `1.5`, `Inf`, `5m`.
    Number(Number),
    /// `"text"`.
    String(String),
    /// `up{job="a"} offset 5m @ 10`.
    VectorSelector(VectorSelector),
    /// `up[5m] offset 1m`: the modifiers are those of the selector.
    MatrixSelector(MatrixSelector),
    /// `expr[1h:5m]`.
    Subquery(Subquery),
    /// `-expr`, `+expr`.
    Unary(Unary),
    /// `a + on (x) b`.
    Binary(Binary),
    /// `sum by (job) (expr)`.
    Aggregate(Aggregate),
    /// `rate(expr)`.
    Call(Call),
    /// `(expr)`.
    Paren(Box<Expr>),
}

/// A number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Number {
    /// Its value; of a duration the seconds.
    pub value: f64,
    /// Whether it is written as a duration.
    pub is_duration: bool,
}

/// The four types of PromQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ValueType {
    /// A number.
    Scalar,
    /// A text.
    String,
    /// One sample a series.
    InstantVector,
    /// Samples over a range.
    RangeVector,
}

/// A duration that is a literal, or an expression that is known when the evaluation begins.
#[derive(Debug, Clone, PartialEq)]
pub enum DurationExpr {
    /// Nanoseconds; whole milliseconds of them count where it is evaluated.
    Literal(i64),
    /// An arithmetic expression over numbers of seconds, `step()`, `range()`, `min_of`, `max_of`.
    Computed(Box<DurationNode>),
}

/// A node of a duration expression, with its place.
#[derive(Debug, Clone, PartialEq)]
pub struct DurationNode {
    /// What it is.
    pub op: DurationOp,
    /// Where it stands, its parentheses included.
    pub span: Span,
    /// Whether it is in parentheses.
    pub in_parens: bool,
}

/// The kinds of duration node; values are seconds.
#[derive(Debug, Clone, PartialEq)]
pub enum DurationOp {
    /// A number or a duration, with its sign.
    Seconds(Number),
    /// `step()`
    Step,
    /// `range()`
    Range,
    /// `-a`, where a is no number
    Negated(Box<DurationNode>),
    /// `+a`, which is kept before the functions of an offset, where Prometheus shows it in its tree.
    Plus(Box<DurationNode>),
    /// `a op b` with one of `+ - * / % ^`
    Arithmetic(BinaryOp, Box<DurationNode>, Box<DurationNode>),
    /// `min_of(a, b)`
    Min(Box<DurationNode>, Box<DurationNode>),
    /// `max_of(a, b)`
    Max(Box<DurationNode>, Box<DurationNode>),
}

/// The `@` modifier.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum At {
    /// A time in Unix milliseconds.
    Time(i64),
    /// `@ start()`
    Start,
    /// `@ end()`
    End,
}

/// `anchored` or `smoothed`, behind the feature `promql-extended-range-selectors`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangeMode {
    /// Plain.
    Normal,
    /// `anchored`
    Anchored,
    /// `smoothed`
    Smoothed,
}

/// A selector of series.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorSelector {
    /// The metric's name where it stood before the braces.
    pub name: Option<String>,
    /// All matchers, that of the name included.
    pub matchers: Vec<Matcher>,
    /// `offset`, zero if absent; positive looks back.
    pub offset: DurationExpr,
    /// `@`.
    pub at: Option<At>,
    /// `anchored` and `smoothed`.
    pub mode: RangeMode,
    /// Whether it is written with names that have letters of all scripts and dots without quotes.
    pub utf8_names: bool,
}

/// A selector with a range.
#[derive(Debug, Clone, PartialEq)]
pub struct MatrixSelector {
    /// The selector.
    pub selector: VectorSelector,
    /// Its place, without the range.
    pub selector_span: Span,
    /// The range.
    pub range: DurationExpr,
}

/// An expression evaluated at steps over a range.
#[derive(Debug, Clone, PartialEq)]
pub struct Subquery {
    /// What is evaluated.
    pub expr: Box<Expr>,
    /// The range.
    pub range: DurationExpr,
    /// The step; `None` takes the default of the engine.
    pub step: Option<DurationExpr>,
    /// `offset`.
    pub offset: DurationExpr,
    /// `@`.
    pub at: Option<At>,
}

/// A sign.
#[derive(Debug, Clone, PartialEq)]
pub struct Unary {
    /// Whether it is a minus.
    pub negative: bool,
    /// The operand.
    pub expr: Box<Expr>,
}

/// The binary operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // their names say all
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    And,
    Or,
    Unless,
    /// `</`, trims a native histogram from above.
    TrimUpper,
    /// `>/`, trims a native histogram from below.
    TrimLower,
}

/// Which labels match, and how many series of one side may meet one of the other.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct VectorMatching {
    /// `on` (true) or `ignoring` (false).
    pub on: bool,
    /// The labels of `on` or `ignoring`.
    pub labels: Vec<String>,
    /// Cardinality.
    pub cardinality: Cardinality,
    /// Labels of `group_left` or `group_right`, copied from the side with one.
    pub include: Vec<String>,
    /// `fill(x)`, `fill_left(x)`: the value of a left side that is missing.
    pub fill_left: Option<f64>,
    /// `fill(x)`, `fill_right(x)`.
    pub fill_right: Option<f64>,
    /// Whether it is written with names that have letters of all scripts and dots without quotes.
    pub utf8_names: bool,
}

/// How many series of one side meet one of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cardinality {
    /// One to one.
    #[default]
    OneToOne,
    /// `group_left`
    ManyToOne,
    /// `group_right`
    OneToMany,
    /// The set operators.
    ManyToMany,
}

/// Two operands and an operator.
#[derive(Debug, Clone, PartialEq)]
pub struct Binary {
    /// The operator.
    pub op: BinaryOp,
    /// Left operand.
    pub left: Box<Expr>,
    /// Right operand.
    pub right: Box<Expr>,
    /// `bool`: comparisons yield 0 and 1.
    pub return_bool: bool,
    /// How vectors meet; the default where a side is a scalar.
    pub matching: VectorMatching,
}

/// The aggregations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // their names say all
pub enum AggregateOp {
    Sum,
    Avg,
    Min,
    Max,
    Group,
    Stddev,
    Stdvar,
    Count,
    CountValues,
    BottomK,
    TopK,
    Quantile,
    LimitK,
    LimitRatio,
}

/// An aggregation.
#[derive(Debug, Clone, PartialEq)]
pub struct Aggregate {
    /// The operator.
    pub op: AggregateOp,
    /// What is aggregated.
    pub expr: Box<Expr>,
    /// The parameter of `topk`, `bottomk`, `quantile`, `count_values`, `limitk`, `limit_ratio`.
    pub param: Option<Box<Expr>>,
    /// `without` (true) or `by` (false).
    pub without: bool,
    /// The labels of `by` or `without`.
    pub grouping: Vec<String>,
    /// Whether it is written with names that have letters of all scripts and dots without quotes.
    pub utf8_names: bool,
}

/// A function call. The function was looked up in [`crate::functions`], the number and types of its arguments are checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// The function.
    pub function: &'static crate::functions::Function,
    /// Its arguments.
    pub args: Vec<Expr>,
}

impl DurationExpr {
    /// What is not there.
    pub const ZERO: DurationExpr = DurationExpr::Literal(0);

    /// The milliseconds of a literal.
    pub fn literal_ms(&self) -> Option<i64> {
        match self {
            DurationExpr::Literal(ns) => Some(ns / 1_000_000),
            DurationExpr::Computed(_) => None,
        }
    }
}

impl Number {
    /// The number with the other sign.
    pub fn negated(self) -> Number {
        Number { value: -self.value, ..self }
    }
}

impl Expr {
    /// The type of its value.
    pub fn value_type(&self) -> ValueType {
        crate::work::add(1);
        match &self.node {
            Node::Number(_) => ValueType::Scalar,
            Node::String(_) => ValueType::String,
            Node::VectorSelector(_) | Node::Aggregate(_) => ValueType::InstantVector,
            Node::MatrixSelector(_) | Node::Subquery(_) => ValueType::RangeVector,
            Node::Unary(unary) => unary.expr.value_type(),
            Node::Paren(inner) => inner.value_type(),
            Node::Call(call) => call.function.returns,
            Node::Binary(b) => match (b.left.value_type(), b.right.value_type()) {
                (ValueType::Scalar, ValueType::Scalar) => ValueType::Scalar,
                _ => ValueType::InstantVector,
            },
        }
    }

    /// Calls `see` with every expression below this one, and with this one last.
    pub fn walk<'a>(&'a self, see: &mut dyn FnMut(&'a Expr)) {
        match &self.node {
            Node::Number(_) | Node::String(_) | Node::VectorSelector(_) | Node::MatrixSelector(_) => {}
            Node::Subquery(subquery) => subquery.expr.walk(see),
            Node::Unary(unary) => unary.expr.walk(see),
            Node::Paren(inner) => inner.walk(see),
            Node::Binary(binary) => {
                binary.left.walk(see);
                binary.right.walk(see);
            }
            Node::Aggregate(aggregate) => {
                aggregate.param.iter().for_each(|param| param.walk(see));
                aggregate.expr.walk(see);
            }
            Node::Call(call) => call.args.iter().for_each(|arg| arg.walk(see)),
        }
        see(self);
    }
}

impl ValueType {
    /// Whether it is made of series.
    pub fn is_series(self) -> bool {
        matches!(self, ValueType::InstantVector | ValueType::RangeVector)
    }

    /// Its name in one word, as the types of results have it.
    pub fn short_name(self) -> &'static str {
        match self {
            ValueType::Scalar => "scalar",
            ValueType::InstantVector => "vector",
            ValueType::RangeVector => "matrix",
            ValueType::String => "string",
        }
    }

    /// The name in error texts.
    pub fn name(self) -> &'static str {
        match self {
            ValueType::Scalar => "scalar",
            ValueType::String => "string",
            ValueType::InstantVector => "instant vector",
            ValueType::RangeVector => "range vector",
        }
    }
}

impl BinaryOp {
    /// As PromQL writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            BinaryOp::Add => "+",
            BinaryOp::Sub => "-",
            BinaryOp::Mul => "*",
            BinaryOp::Div => "/",
            BinaryOp::Mod => "%",
            BinaryOp::Pow => "^",
            BinaryOp::Atan2 => "atan2",
            BinaryOp::Equal => "==",
            BinaryOp::NotEqual => "!=",
            BinaryOp::Less => "<",
            BinaryOp::LessEqual => "<=",
            BinaryOp::Greater => ">",
            BinaryOp::GreaterEqual => ">=",
            BinaryOp::And => "and",
            BinaryOp::Or => "or",
            BinaryOp::Unless => "unless",
            BinaryOp::TrimUpper => "</",
            BinaryOp::TrimLower => ">/",
        }
    }

    /// Whether it compares.
    pub fn is_comparison(self) -> bool {
        use BinaryOp::{Equal, Greater, GreaterEqual, Less, LessEqual, NotEqual};
        matches!(self, Equal | NotEqual | Less | LessEqual | Greater | GreaterEqual)
    }

    /// Whether it is one of `and`, `or`, `unless`.
    pub fn is_set(self) -> bool {
        matches!(self, BinaryOp::And | BinaryOp::Or | BinaryOp::Unless)
    }
}

impl AggregateOp {
    /// All of them.
    pub const ALL: [AggregateOp; 14] = [
        AggregateOp::Sum,
        AggregateOp::Avg,
        AggregateOp::Min,
        AggregateOp::Max,
        AggregateOp::Group,
        AggregateOp::Stddev,
        AggregateOp::Stdvar,
        AggregateOp::Count,
        AggregateOp::CountValues,
        AggregateOp::BottomK,
        AggregateOp::TopK,
        AggregateOp::Quantile,
        AggregateOp::LimitK,
        AggregateOp::LimitRatio,
    ];

    /// Whether it needs the feature `promql-experimental-functions`.
    pub fn is_experimental(self) -> bool {
        matches!(self, AggregateOp::LimitK | AggregateOp::LimitRatio)
    }

    /// As PromQL writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            AggregateOp::Sum => "sum",
            AggregateOp::Avg => "avg",
            AggregateOp::Min => "min",
            AggregateOp::Max => "max",
            AggregateOp::Group => "group",
            AggregateOp::Stddev => "stddev",
            AggregateOp::Stdvar => "stdvar",
            AggregateOp::Count => "count",
            AggregateOp::CountValues => "count_values",
            AggregateOp::BottomK => "bottomk",
            AggregateOp::TopK => "topk",
            AggregateOp::Quantile => "quantile",
            AggregateOp::LimitK => "limitk",
            AggregateOp::LimitRatio => "limit_ratio",
        }
    }
}
