//! The rule sets that were handed over, as their documents: never a value of a secret.

use std::collections::BTreeMap;

use rusqlite::params;

use super::Store;
use crate::Error;

/// What changes of one source's set, to be stored as a whole.
#[derive(Debug, Default)]
pub(crate) struct HandedRows {
    pub(crate) source: String,
    pub(crate) epoch: String,
    pub(crate) generation: i64,
    /// By uid: the document as it was handed over last, and where that is refused the one before, which is in use.
    pub(crate) rules: Vec<(String, String, Option<String>)>,
    pub(crate) removed_rules: Vec<String>,
    /// By id.
    pub(crate) channels: Vec<(String, String)>,
    pub(crate) removed_channels: Vec<String>,
}

/// A source's set as it was stored.
#[derive(Debug, Default)]
pub(crate) struct RestoredSet {
    pub(crate) epoch: String,
    pub(crate) generation: i64,
    pub(crate) rules: Vec<(String, String, Option<String>)>,
    pub(crate) channels: Vec<(String, String)>,
}

impl Store {
    /// Writes what changes, and nothing else.
    pub(crate) async fn hand_over(&self, rows: HandedRows) -> Result<(), Error> {
        self.run(move |connection| {
            let transaction = connection.transaction()?;
            let HandedRows { source, epoch, generation, rules, removed_rules, channels, removed_channels } = rows;
            let sql = "INSERT OR REPLACE INTO rule_sets VALUES (?1, ?2, ?3)";
            transaction.prepare_cached(sql)?.execute(params![source, epoch, generation])?;
            for (uid, document, good) in rules {
                let sql = "INSERT OR REPLACE INTO handed_rules VALUES (?1, ?2, ?3, ?4)";
                transaction.prepare_cached(sql)?.execute(params![source, uid, document, good])?;
            }
            for uid in removed_rules {
                let sql = "DELETE FROM handed_rules WHERE source = ?1 AND uid = ?2";
                transaction.prepare_cached(sql)?.execute(params![source, uid])?;
            }
            for (id, document) in channels {
                let sql = "INSERT OR REPLACE INTO handed_channels VALUES (?1, ?2, ?3)";
                transaction.prepare_cached(sql)?.execute(params![source, id, document])?;
            }
            for id in removed_channels {
                let sql = "DELETE FROM handed_channels WHERE source = ?1 AND id = ?2";
                transaction.prepare_cached(sql)?.execute(params![source, id])?;
            }
            Ok(transaction.commit()?)
        })
        .await
    }

    /// All sets, by source.
    pub(crate) async fn handed(&self) -> Result<BTreeMap<String, RestoredSet>, Error> {
        self.run(|connection| {
            let mut sets: BTreeMap<String, RestoredSet> = BTreeMap::new();
            let mut statement = connection.prepare("SELECT source, epoch, generation FROM rule_sets")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let set = RestoredSet { epoch: row.get(1)?, generation: row.get(2)?, ..RestoredSet::default() };
                sets.insert(row.get(0)?, set);
            }
            let mut statement = connection.prepare("SELECT source, uid, document, good FROM handed_rules")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let set = sets.entry(row.get(0)?).or_default();
                set.rules.push((row.get(1)?, row.get(2)?, row.get(3)?));
            }
            let mut statement = connection.prepare("SELECT source, id, document FROM handed_channels")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                sets.entry(row.get(0)?).or_default().channels.push((row.get(1)?, row.get(2)?));
            }
            Ok(sets)
        })
        .await
    }
}
