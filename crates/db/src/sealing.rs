//! What is sealed in several tables in one way: sets of variables, and the rows in which an earlier
//! version left them as they were.

use std::collections::BTreeMap;

use crate::{Conn, Db, Error, Seal, SealError};

/// How many rows of earlier versions are sealed in one transaction.
const AT_ONCE: i64 = 200;

impl Seal {
    /// Seals the variables of what has this id; `None` where there are none, or a server that shares
    /// the database could not open them.
    ///
    /// # Errors
    /// [`SealError::Random`].
    pub fn seal_variables(
        &self,
        id: &str,
        variables: &BTreeMap<String, String>,
    ) -> Result<Option<String>, SealError> {
        if variables.is_empty() || !self.is_common() {
            return Ok(None);
        }
        let text = serde_json::Value::from_iter(variables.clone()).to_string();
        self.seal(id, &text).map(Some)
    }

    /// Opens what [`Self::seal_variables`] made for this id.
    ///
    /// # Errors
    /// [`SealError::OtherKey`], [`SealError::NoVariables`].
    pub fn open_variables(
        &self,
        id: &str,
        sealed: &str,
    ) -> Result<BTreeMap<String, String>, SealError> {
        let text = self.unseal(id, sealed)?;
        serde_json::from_str(&text).map_err(|_| SealError::NoVariables)
    }
}

/// Seals the rows that `list` finds behind an id, page by page, and counts those that `seal` says it
/// sealed. A page is one transaction.
///
/// # Errors
/// What either fails with; the pages before stay sealed.
pub async fn seal_plain<R, E: From<Error>>(
    db: &Db,
    list: impl AsyncFn(&mut Conn, &str, i64) -> Result<Vec<R>, Error>,
    id: impl Fn(&R) -> &String,
    seal: impl AsyncFn(&mut Conn, R) -> Result<bool, E>,
) -> Result<usize, E> {
    let (mut after, mut count) = (String::new(), 0);
    loop {
        let mut tx = db.begin().await?;
        let page = list(&mut tx, &after, AT_ONCE).await?;
        let Some(last) = page.last() else {
            return Ok(count);
        };
        after.clone_from(id(last));
        for row in page {
            count += usize::from(seal(&mut tx, row).await?);
        }
        tx.commit().await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_read_back_for_what_they_were_sealed_for() {
        let seal = Seal::with_key(&[7; 32]);
        let variables = BTreeMap::from([("A".to_owned(), "\"1\" = ä".to_owned())]);
        let sealed = seal.seal_variables("job 1", &variables).unwrap().unwrap();
        assert_eq!(seal.open_variables("job 1", &sealed).unwrap(), variables);
        let other = seal.open_variables("job 2", &sealed);
        assert!(matches!(other, Err(SealError::OtherKey)));
        let none = seal.seal_variables("job 1", &BTreeMap::new()).unwrap();
        assert_eq!(none, None);
        let text = seal.seal("job 1", "[]").unwrap();
        let read = seal.open_variables("job 1", &text);
        assert!(matches!(read, Err(SealError::NoVariables)));
    }

    #[tokio::test]
    async fn all_rows_are_sealed_page_by_page() {
        const ROWS: usize = AT_ONCE as usize + 50;
        for db in crate::testing::both(&[]).await {
            let ids: Vec<String> = (0..ROWS).map(|number| format!("{number:04}")).collect();
            let list = async |_: &mut Conn, after: &str, limit: i64| {
                let rest = ids.iter().filter(|id| id.as_str() > after);
                Ok(rest.take(limit.try_into().unwrap()).cloned().collect())
            };
            // One that another version must read stays, and is not met again.
            let seal = async |_: &mut Conn, id: String| Ok::<_, Error>(id != "0007");
            let count = seal_plain(&db, list, |id| id, seal).await.unwrap();
            assert_eq!(count, ROWS - 1, "{}", db.name);
        }
    }
}
