//! `weir send`: samples from a file, in requests of a bounded size.

use std::io::{BufRead, BufReader, Read, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::cli::{Content, SendArgs};
use crate::client::{Answer, Client};
use crate::output::out;

/// Size of a request: below every limit of the server, and large enough that requests are not what costs.
const REQUEST_BYTES: usize = 1 << 20;
/// The longest line: far above what a sample takes.
const LINE_BYTES_MAX: usize = 1 << 20;
/// The largest JSON document that goes over many lines: it is one request, below the server's limit by default.
const DOCUMENT_BYTES_MAX: usize = 24 << 20;
/// Refusals that are shown one by one.
const SHOWN_MAX: usize = 20;

/// What became of the samples.
#[derive(Debug, Default)]
struct Outcome {
    accepted: u64,
    refused: u64,
    /// The first of the refusals, each with its place.
    reasons: Vec<String>,
}

/// Sends a file, and says what was accepted.
pub(crate) async fn send(args: &SendArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.server.url)?;
    let name = args.file.display();
    let input: Box<dyn Read> = if args.file.as_os_str() == "-" {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(&args.file).with_context(|| format!("reading {name}"))?)
    };
    let mut input = BufReader::new(input);
    let json = match args.format {
        Content::Auto => is_json(&mut input).with_context(|| format!("reading {name}"))?,
        Content::Json => true,
        Content::Text => false,
    };
    let mut chunks = Chunks { input, line: 1, json };
    let mut outcome = Outcome::default();
    while let Some(chunk) = chunks.next().with_context(|| format!("reading {name}"))? {
        send_chunk(&client, chunk, json, &mut outcome).await?;
    }
    for reason in &outcome.reasons {
        writeln!(std::io::stderr(), "{name}: {reason}")?;
    }
    writeln!(out(), "{} samples accepted, {} refused", outcome.accepted, outcome.refused)?;
    Ok(if outcome.refused == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn send_chunk(client: &Client, chunk: Chunk, json: bool, outcome: &mut Outcome) -> anyhow::Result<()> {
    let (answer, entries) = if json {
        let entries = entries(&chunk)?;
        let count = entries.len();
        let body = json!({ "metrics": entries }).to_string();
        (client.post("/metrics", "application/json", body.into_bytes()).await?, count)
    } else {
        let count = samples(&chunk.bytes);
        (client.post("/api/v1/import/prometheus", "text/plain; version=0.0.4", chunk.bytes).await?, count)
    };
    outcome.add(&answer, entries, chunk.first_line)
}

impl Outcome {
    fn add(&mut self, answer: &Answer, entries: usize, first_line: usize) -> anyhow::Result<()> {
        let body = answer.json().unwrap_or_default();
        // Anything that is not about the samples ends the command: the rest would fare the same.
        if !(200..300).contains(&answer.status) && answer.status != 400 {
            bail!("status {}: {}", answer.status, answer.text.trim());
        }
        let errors = body["errors"].as_array().map_or(&[][..], Vec::as_slice);
        if let Some((refused, accepted)) = told(&answer.text) {
            self.accepted += accepted;
            self.refused += refused;
            if self.reasons.len() < SHOWN_MAX {
                self.reasons.push(format!("lines from {first_line} on: {}", answer.text.trim()));
            }
            return Ok(());
        }
        let accepted = match body["count"].as_u64() {
            Some(count) => count,
            None if answer.status != 400 => entries as u64,
            None => bail!("lines from {first_line} on: {}", answer.text.trim()),
        };
        self.accepted += accepted;
        self.refused += (entries as u64).saturating_sub(accepted).max(errors.len() as u64);
        for error in errors.iter().take(SHOWN_MAX.saturating_sub(self.reasons.len())) {
            self.reasons.push(reason(error, first_line));
        }
        Ok(())
    }
}

/// The server counts entries from 0, of one request.
fn reason(error: &Value, first_line: usize) -> String {
    let text = error["reason"].as_str().map_or_else(|| error.to_string(), str::to_owned);
    match error["index"].as_u64() {
        Some(index) => format!("entry {index} of those from line {first_line} on: {text}"),
        None => text,
    }
}

/// How many samples were refused and taken, of `2 rejected, 5 samples written: …`, which is what a text with bad lines is answered.
fn told(text: &str) -> Option<(u64, u64)> {
    let (refused, rest) = text.split_once(" rejected, ")?;
    let (accepted, _) = rest.split_once(" samples written")?;
    Some((refused.parse().ok()?, accepted.parse().ok()?))
}

/// The lines of a text that are samples.
fn samples(text: &[u8]) -> usize {
    let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    lines.filter(|line| !line.is_empty() && !line.starts_with(b"#")).count()
}

/// Looks at the first byte that is no space, and takes nothing.
fn is_json(input: &mut impl BufRead) -> std::io::Result<bool> {
    let seen = input.fill_buf()?;
    Ok(seen.iter().find(|byte| !byte.is_ascii_whitespace()).is_some_and(|byte| matches!(byte, b'{' | b'[')))
}

/// Some whole lines.
#[derive(Debug)]
struct Chunk {
    bytes: Vec<u8>,
    first_line: usize,
}

/// Cuts the input at line ends.
struct Chunks<R> {
    input: R,
    line: usize,
    json: bool,
}

impl<R: BufRead> Chunks<R> {
    fn next(&mut self) -> anyhow::Result<Option<Chunk>> {
        let first_line = self.line;
        let mut bytes = Vec::new();
        let mut nesting = Nesting::default();
        while bytes.len() < REQUEST_BYTES || nesting.is_inside() {
            let before = bytes.len();
            let read = self.input.by_ref().take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut bytes)?;
            if read == 0 {
                break;
            }
            if bytes.len() - before > LINE_BYTES_MAX {
                bail!("line {}: longer than {LINE_BYTES_MAX} bytes", self.line);
            }
            if self.json {
                nesting.read(&bytes[before..]);
                if bytes.len() > DOCUMENT_BYTES_MAX {
                    bail!(
                        "line {first_line}: a document longer than {DOCUMENT_BYTES_MAX} bytes; write one object a line"
                    );
                }
            }
            self.line += 1;
        }
        Ok((!bytes.is_empty()).then_some(Chunk { bytes, first_line }))
    }
}

/// Follows the brackets of JSON, to cut only between documents. What is no JSON is reported when it is read.
#[derive(Debug, Default)]
struct Nesting {
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Nesting {
    fn read(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_string => self.escaped = true,
                b'"' => self.in_string = !self.in_string,
                b'{' | b'[' if !self.in_string => self.depth += 1,
                b'}' | b']' if !self.in_string => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
    }

    fn is_inside(&self) -> bool {
        self.depth > 0
    }
}

/// The entries of one object, of `{"metrics": […]}`, or of several of these one after the other.
fn entries(chunk: &Chunk) -> anyhow::Result<Vec<Value>> {
    let mut all = Vec::new();
    for document in serde_json::Deserializer::from_slice(&chunk.bytes).into_iter::<Value>() {
        let document = document.map_err(|e| {
            anyhow::anyhow!("line {}, column {}: {e}", chunk.first_line + e.line().saturating_sub(1), e.column())
        })?;
        match document {
            Value::Object(mut object) if object.get("metrics").is_some_and(Value::is_array) => {
                if let Some(Value::Array(metrics)) = object.remove("metrics") {
                    all.extend(metrics);
                }
            }
            Value::Array(metrics) => all.extend(metrics),
            one => all.push(one),
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(text: &str) -> Chunk {
        Chunk { bytes: text.as_bytes().to_vec(), first_line: 11 }
    }

    #[test]
    fn json_is_known_by_its_first_character() {
        for (text, expect) in
            [("  \n{\"name\"", true), ("[1]", true), ("up 1\n", false), ("# HELP {", false), ("", false)]
        {
            assert_eq!(is_json(&mut text.as_bytes()).expect("read"), expect, "{text}");
        }
    }

    #[test]
    fn entries_are_taken_from_every_form_of_json() {
        let text = "{\"name\":\"a\"}\n{\"metrics\":[{\"name\":\"b\"},\n {\"name\":\"c\"}]}\n[{\"name\":\"d\"}]";
        let names: Vec<Value> = entries(&chunk(text)).expect("entries").iter().map(|e| e["name"].clone()).collect();
        assert_eq!(names, ["a", "b", "c", "d"]);
        let error = entries(&chunk("{\"name\":\"a\"}\n{\"name\" 1}\n")).expect_err("no colon").to_string();
        assert!(error.starts_with("line 12, column 9: "), "{error}");
    }

    #[test]
    fn input_is_cut_at_line_ends_and_never_within_a_document() {
        let line = format!("up{{x=\"{}\"}} 1\n", "x".repeat(1000));
        let text = line.repeat(1500);
        let mut chunks = Chunks { input: text.as_bytes(), line: 1, json: false };
        let (first, second) =
            (chunks.next().expect("read").expect("some"), chunks.next().expect("read").expect("some"));
        assert!(first.bytes.len() >= REQUEST_BYTES && first.bytes.ends_with(b"\n"));
        assert_eq!(second.first_line, 1 + first.bytes.len() / line.len());
        assert_eq!(first.bytes.len() + second.bytes.len(), text.len());
        assert!(chunks.next().expect("read").is_none());

        let document = format!("{{\"metrics\":[\n{}{{}}]}}\n", "{\"name\":\"a\"},\n".repeat(100_000));
        let mut chunks = Chunks { input: document.as_bytes(), line: 1, json: true };
        assert_eq!(chunks.next().expect("read").expect("some").bytes.len(), document.len());

        let long = "x".repeat(LINE_BYTES_MAX + 1);
        let error = Chunks { input: long.as_bytes(), line: 1, json: false }.next().expect_err("refused").to_string();
        assert_eq!(error, format!("line 1: longer than {LINE_BYTES_MAX} bytes"));
    }

    #[test]
    fn refusals_are_counted_and_told_with_their_place() {
        let mut outcome = Outcome::default();
        let answer = |status, body: Value| Answer { status, text: body.to_string() };
        outcome.add(&answer(202, json!({"status": "accepted", "count": 3})), 3, 1).expect("counted");
        let partly = json!({"count": 1, "errors": [{"index": 1, "reason": "value: not a number"}]});
        outcome.add(&answer(400, partly), 2, 5).expect("counted");
        let text = |status, text: &str| Answer { status, text: text.to_owned() };
        outcome.add(&text(400, "1 rejected, 2 samples written: line 3: no value\n"), 3, 100).expect("counted");
        outcome.add(&text(204, ""), samples(b"# HELP a b\na 1\n\n b 2\n"), 200).expect("counted");
        assert_eq!((outcome.accepted, outcome.refused), (8, 2));
        assert_eq!(
            outcome.reasons,
            [
                "entry 1 of those from line 5 on: value: not a number",
                "lines from 100 on: 1 rejected, 2 samples written: line 3: no value"
            ]
        );
        assert!(outcome.add(&text(400, "what is this"), 1, 1).is_err());
        let full = outcome.add(&answer(429, json!({"error": "slow down"})), 1, 1).expect_err("ends").to_string();
        assert!(full.starts_with("status 429"), "{full}");
    }
}
