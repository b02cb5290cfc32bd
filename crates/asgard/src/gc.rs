//! Removing for good what has been in the bin for long: runs, logged models, experiments, and
//! their files. What a registered version still serves stays.

use registry::Registry;
use tracking::{Deleted, DeletedKind, Extent, Location, Removal, Tracking};
use web::ApiError;

/// How many things one page looks at.
const PAGE: i64 = 50;

/// What collects; cheap to clone.
#[derive(Clone)]
pub struct Collector {
    tracking: Tracking,
    registry: Registry,
}

/// What fails while the bin is emptied.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Tracking(#[from] tracking::Error),
    #[error(transparent)]
    Registry(#[from] registry::Error),
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        match error {
            Error::Tracking(error) => error.into(),
            Error::Registry(error) => error.into(),
        }
    }
}

/// One page of a collection.
#[derive(Debug, Clone)]
pub struct Order {
    /// Only tell what would be removed.
    pub dry_run: bool,
    /// Only what was deleted before this moment, in epoch milliseconds.
    pub before: i64,
    /// Where the last page ended; empty: at the beginning.
    pub after: String,
}

/// What a page did.
#[derive(Debug)]
pub struct Page {
    pub items: Vec<Item>,
    /// Where the next page begins; none when everything has been looked at.
    pub next: Option<String>,
}

/// Something that was in the bin.
#[derive(Debug)]
pub struct Item {
    pub kind: &'static str,
    pub id: String,
    pub name: String,
    pub deleted_at: Option<i64>,
    pub extent: Extent,
    pub outcome: Outcome,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is gone, or would be.
    Removed,
    /// It stays, for a reason.
    Kept(String),
}

/// The steps of a collection, in their order.
const STEPS: [Step; 4] = [
    Step::Files,
    Step::Things(DeletedKind::Run),
    Step::Things(DeletedKind::LoggedModel),
    Step::Things(DeletedKind::Experiment),
];

#[derive(Debug, Clone, Copy)]
enum Step {
    /// Folders that a collection left when it was killed.
    Files,
    Things(DeletedKind),
}

impl Step {
    fn name(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Things(kind) => kind.as_str(),
        }
    }
}

impl Collector {
    /// Collects what these hold.
    pub fn new(tracking: Tracking, registry: Registry) -> Self {
        Self { tracking, registry }
    }

    /// Looks at the next page of what is in the bin, and removes it unless it is a dry run.
    ///
    /// # Errors
    /// When the database or the store fails; what the page removed before stays removed, and the
    /// same page can be asked for again.
    pub async fn page(&self, order: &Order) -> Result<Page, Error> {
        let (name, last) = order.after.split_once(':').unwrap_or_default();
        let at = STEPS.iter().position(|step| step.name() == name);
        let at = at.unwrap_or_default();
        let (items, more) = match STEPS[at] {
            Step::Files => self.left_files(order, last).await?,
            Step::Things(kind) => self.things(order, kind, last).await?,
        };
        let next = match (items.last(), STEPS.get(at + 1)) {
            (Some(item), _) if more => Some(format!("{}:{}", STEPS[at].name(), item.id)),
            (_, Some(step)) => Some(format!("{}:", step.name())),
            (_, None) => None,
        };
        Ok(Page { items, next })
    }

    async fn left_files(&self, order: &Order, after: &str) -> Result<(Vec<Item>, bool), Error> {
        let folders = self.tracking.list_removed_folders(after, PAGE).await?;
        let more = folders.len() as i64 == PAGE;
        let mut items = Vec::with_capacity(folders.len());
        for folder in folders {
            let extent = self.tracking.extent(&folder).await?;
            items.push(Item {
                kind: "files",
                id: folder.key().to_owned(),
                name: folder.key().to_owned(),
                deleted_at: None,
                extent,
                outcome: match self.user(&folder).await? {
                    Some(user) => Outcome::Kept(user),
                    None => Outcome::Removed,
                },
            });
            if !order.dry_run {
                self.remove_files(&folder).await?;
            }
        }
        Ok((items, more))
    }

    async fn things(
        &self,
        order: &Order,
        kind: DeletedKind,
        after: &str,
    ) -> Result<(Vec<Item>, bool), Error> {
        let page = self.tracking.list_deleted(kind, order.before, after, PAGE);
        let page = page.await?;
        let more = page.len() as i64 == PAGE;
        let mut items = Vec::with_capacity(page.len());
        for deleted in page {
            items.push(self.thing(order, deleted).await?);
        }
        Ok((items, more))
    }

    async fn thing(&self, order: &Order, deleted: Deleted) -> Result<Item, Error> {
        let folder = deleted.folder();
        let extent = match &folder {
            // The runs and models in an experiment are counted by themselves.
            Some(folder) if deleted.kind != DeletedKind::Experiment => {
                self.tracking.extent(folder).await?
            }
            _ => Extent::default(),
        };
        // Whether an experiment is empty shows when it is removed; a dry run can only look ahead.
        let looks = order.dry_run || deleted.kind != DeletedKind::Experiment;
        let user = match folder.as_ref().filter(|_| looks) {
            Some(folder) => self.user(folder).await?,
            None => None,
        };
        let outcome = match user {
            Some(user) => Outcome::Kept(user),
            None if order.dry_run => Outcome::Removed,
            None => self.remove(&deleted, order.before, folder.as_ref()).await?,
        };
        Ok(Item {
            kind: deleted.kind.as_str(),
            id: deleted.id,
            name: deleted.name,
            deleted_at: Some(deleted.deleted_at),
            extent,
            outcome,
        })
    }

    async fn remove(
        &self,
        deleted: &Deleted,
        before: i64,
        folder: Option<&Location>,
    ) -> Result<Outcome, Error> {
        Ok(match self.tracking.remove_deleted(deleted, before).await? {
            Removal::NotDeleted => Outcome::Kept("it has been restored meanwhile".to_owned()),
            Removal::NotEmpty => Outcome::Kept("it holds runs or models that stay".to_owned()),
            Removal::Removed => {
                tracing::info!(
                    kind = deleted.kind.as_str(),
                    id = deleted.id,
                    "removed for good"
                );
                match folder {
                    Some(folder) if deleted.kind != DeletedKind::Experiment => {
                        self.remove_files(folder).await?;
                    }
                    // An experiment leaves one folder or several: the note knows which.
                    _ => self.remove_all_files().await?,
                }
                Outcome::Removed
            }
        })
    }

    async fn remove_all_files(&self) -> Result<(), Error> {
        let mut after = String::new();
        loop {
            let folders = self.tracking.list_removed_folders(&after, PAGE).await?;
            let Some(last) = folders.last() else {
                return Ok(());
            };
            after = last.key().to_owned();
            for folder in &folders {
                self.remove_files(folder).await?;
            }
        }
    }

    /// Removes files whose rows are gone, unless a version has been made of them meanwhile.
    async fn remove_files(&self, folder: &Location) -> Result<(), Error> {
        if self.user(folder).await?.is_none() {
            self.tracking.remove_files(folder).await?;
        }
        Ok(())
    }

    /// What still needs the files of a folder.
    async fn user(&self, folder: &Location) -> Result<Option<String>, Error> {
        let version = self.registry.find_within(folder).await?;
        Ok(version
            .map(|(name, version)| format!("version {version} of the model {name:?} uses it")))
    }
}
