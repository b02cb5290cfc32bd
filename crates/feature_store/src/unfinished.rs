//! Data files that no table has yet: when writing them fails, or nobody waits for it any more, they
//! are removed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use iceberg::io::FileIO;
use iceberg::spec::DataFileFormat;
use iceberg::table::Table;
use iceberg::writer::file_writer::location_generator::{
    DefaultFileNameGenerator, DefaultLocationGenerator, FileNameGenerator, LocationGenerator as _,
};
use tokio::runtime::Handle;

/// The names of data files, and those that were given so far.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    next: DefaultFileNameGenerator,
    given: Arc<Mutex<Vec<String>>>,
}

/// The files that are being written; removed when dropped.
pub(crate) struct Unfinished(Option<Written>);

/// The files that were written.
pub(crate) struct Written {
    files: FileIO,
    locations: DefaultLocationGenerator,
    names: Names,
}

impl FileNameGenerator for Names {
    fn generate_file_name(&self) -> String {
        let name = self.next.generate_file_name();
        self.given().push(name.clone());
        name
    }
}

impl Names {
    fn given(&self) -> MutexGuard<'_, Vec<String>> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Unfinished {
    /// None yet, for this table.
    ///
    /// # Errors
    /// When the table does not say where its files are.
    pub(crate) fn new(table: &Table) -> Result<Self, iceberg::Error> {
        let prefix = ulid::Ulid::new().to_string().to_lowercase();
        Ok(Self(Some(Written {
            files: table.file_io().clone(),
            locations: DefaultLocationGenerator::new(table.metadata())?,
            names: Names {
                next: DefaultFileNameGenerator::new(prefix, None, DataFileFormat::Parquet),
                given: Arc::default(),
            },
        })))
    }

    /// Where the next files go.
    pub(crate) fn places(&self) -> (DefaultLocationGenerator, Names) {
        let written = self.0.as_ref().expect("it is taken when this is gone");
        (written.locations.clone(), written.names.clone())
    }

    /// From now on a table may have them.
    pub(crate) fn keep(mut self) -> Written {
        self.0.take().expect("it is taken once")
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let Some(written) = self.0.take() else { return };
        if written.names.given().is_empty() {
            return;
        }
        // Without a runtime the process ends.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(written.remove());
        }
    }
}

impl Written {
    /// Removes files that no table has.
    pub(crate) async fn remove(self) {
        let names = std::mem::take(&mut *self.names.given());
        for name in names {
            let path = self.locations.generate_location(None, &name);
            // It was perhaps not begun.
            let removed = match self.files.exists(&path).await {
                Ok(true) => self.files.delete(&path).await,
                other => other.map(|_| ()),
            };
            if let Err(error) = removed {
                tracing::warn!(path, %error, "a data file that no table has stays behind");
            }
        }
    }
}
