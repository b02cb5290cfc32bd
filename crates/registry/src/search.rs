//! Searches of registered models and versions: what is asked, and pages of it.

use tracking::filter::{Clause, Op, Operand, OrderKey, parse_filter, parse_order};
use tracking::page;

use crate::Registry;
use crate::error::Error;
use crate::external;
use crate::model::RegisteredModel;
use crate::store::search as store;
use crate::store::versions;
use crate::version::ModelVersion;

/// The tag that makes a registered model a prompt, which searches leave out.
const PROMPT_TAG: &str = "mlflow.prompt.is_prompt";

/// The most models on a page (`SEARCH_REGISTERED_MODEL_MAX_RESULTS_THRESHOLD`).
const MAX_MODELS: i64 = 1_000;
const DEFAULT_MODELS: i64 = 100;

/// The most versions on a page (`SEARCH_MODEL_VERSION_MAX_RESULTS_THRESHOLD`).
const MAX_VERSIONS: i64 = 200_000;
const DEFAULT_VERSIONS: i64 = 10_000;

/// What to search for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Search {
    pub(crate) filter: String,
    pub(crate) order_by: Vec<String>,
    pub(crate) max_results: Option<i64>,
    pub(crate) page_token: Option<String>,
}

/// A search that has been read.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) clauses: Vec<Clause>,
    pub(crate) order: Vec<OrderKey>,
    /// Prompts, or all but prompts.
    pub(crate) prompts: bool,
    pub(crate) limit: i64,
    pub(crate) offset: i64,
}

impl Search {
    fn read(&self, default: i64, most: i64) -> Result<Wanted, Error> {
        let limit = self.max_results.unwrap_or(default);
        if !(1..=most).contains(&limit) {
            return Err(Error::Invalid(format!(
                "Invalid value for request parameter max_results. It must be at least 1 and at \
                 most {most}, but got value {limit}"
            )));
        }
        let mut clauses = parse_filter(&self.filter)?;
        let prompts = clauses.iter().any(asks_for_prompts);
        clauses.retain(|clause| !is_about_prompts(clause));
        let order = self.order_by.iter().map(|text| parse_order(text));
        Ok(Wanted {
            clauses,
            order: order.collect::<Result<_, _>>()?,
            prompts,
            limit,
            offset: page::offset(self.page_token.as_deref())?,
        })
    }
}

/// Whether a clause compares the prompt tag. Models lack the tag, so `= 'false'` must be read as
/// "is no prompt".
fn is_about_prompts(clause: &Clause) -> bool {
    matches!(clause.prefix.as_deref(), Some("tag" | "tags")) && clause.key == PROMPT_TAG
}

fn asks_for_prompts(clause: &Clause) -> bool {
    let Operand::Text(value) = &clause.value else {
        return false;
    };
    is_about_prompts(clause)
        && match clause.op {
            Op::Eq => value.eq_ignore_ascii_case("true"),
            Op::Ne => value.eq_ignore_ascii_case("false"),
            _ => false,
        }
}

/// Cuts what was read to a page, and gives the token of the next one if there is more.
fn cut<T>(mut items: Vec<T>, wanted: &Wanted) -> (Vec<T>, Option<String>) {
    let limit = usize::try_from(wanted.limit).unwrap_or(usize::MAX);
    let more = items.len() > limit;
    items.truncate(limit);
    (
        items,
        more.then(|| page::token(wanted.offset + wanted.limit)),
    )
}

impl Registry {
    /// A page of the registered models that a search means, and the token of the next page.
    pub(crate) async fn search_models(
        &self,
        search: &Search,
    ) -> Result<(Vec<RegisteredModel>, Option<String>), Error> {
        if let Some(external) = self.tracking.external() {
            return external::search(external, search).await;
        }
        let wanted = search.read(DEFAULT_MODELS, MAX_MODELS)?;
        let mut conn = self.db.acquire().await?;
        let found = store::models(&mut conn, &wanted).await?;
        let (mut models, next) = cut(found, &wanted);
        let names: Vec<&str> = models.iter().map(|model| model.name.as_str()).collect();
        let latest = versions::list_latest(&mut conn, &names).await?;
        for version in latest {
            let model = models.iter_mut().find(|model| model.name == version.name);
            if let Some(model) = model {
                model.latest_versions.push(version);
            }
        }
        Ok((models, next))
    }

    /// A page of the versions that a search means, and the token of the next page.
    pub(crate) async fn search_versions(
        &self,
        search: &Search,
    ) -> Result<(Vec<ModelVersion>, Option<String>), Error> {
        let wanted = search.read(DEFAULT_VERSIONS, MAX_VERSIONS)?;
        let mut conn = self.db.acquire().await?;
        let found = store::versions(&mut conn, &wanted).await?;
        Ok(cut(found, &wanted))
    }
}
