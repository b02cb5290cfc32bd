//! The recorder behind the `metrics` macros, and what the process itself uses.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;

/// Upper bounds for durations of requests, in seconds.
const REQUEST_BUCKETS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0,
];

/// Upper bounds for durations of training jobs, in seconds.
const TRAINING_BUCKETS: &[f64] = &[
    1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0,
];

/// How often the recorder folds what was measured into its buckets.
const UPKEEP: Duration = Duration::from_secs(5);

/// All that was measured since the process started; cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    handle: PrometheusHandle,
}

impl Metrics {
    /// Becomes the recorder of this process.
    ///
    /// # Errors
    /// When the process has a recorder already.
    pub fn install() -> Result<Self, BuildError> {
        let handle = builder()?.install_recorder()?;
        describe();
        metrics::gauge!("process_start_time_seconds").set(
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default()
                .as_secs_f64(),
        );
        metrics::gauge!("asgard_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        Ok(Self { handle })
    }

    /// A recorder that records nothing of this process, for tests of the routes.
    ///
    /// # Errors
    /// When the buckets are not in order.
    pub fn detached() -> Result<Self, BuildError> {
        let handle = builder()?.build_recorder().handle();
        Ok(Self { handle })
    }

    /// Everything in the Prometheus text format.
    pub fn render(&self) -> String {
        measure_process();
        self.handle.render()
    }

    /// Keeps memory bounded while nobody scrapes.
    pub async fn upkeep(self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(UPKEEP);
        loop {
            tokio::select! {
                _ = tick.tick() => self.handle.run_upkeep(),
                () = stop.cancelled() => return,
            }
        }
    }
}

fn describe() {
    use metrics::{describe_gauge, describe_histogram};
    describe_histogram!(
        "http_request_duration_seconds",
        "Time from a request's head to its answer's head, by route"
    );
    describe_gauge!(
        "process_resident_memory_bytes",
        "Memory of the server process"
    );
    describe_gauge!(
        "process_cpu_seconds_total",
        "Processor time of the server process"
    );
    describe_gauge!("process_open_fds", "Open files of the server process");
    describe_gauge!(
        "process_start_time_seconds",
        "When the server started, since 1970"
    );
    describe_gauge!("asgard_build_info", "Always 1; its labels tell the version");
}

fn builder() -> Result<PrometheusBuilder, BuildError> {
    PrometheusBuilder::new()
        .set_buckets(REQUEST_BUCKETS)?
        .set_buckets_for_metric(
            Matcher::Full("mlops_training_duration_seconds".to_owned()),
            TRAINING_BUCKETS,
        )
}

fn measure_process() {
    if let Some(bytes) = resident_bytes() {
        metrics::gauge!("process_resident_memory_bytes").set(bytes);
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        metrics::gauge!("process_open_fds").set(open.count() as f64);
    }
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    metrics::gauge!("process_cpu_seconds_total")
        .set(time.tv_sec as f64 + time.tv_nsec as f64 / 1e9);
}

/// The second number of `/proc/self/statm` counts pages.
fn resident_bytes() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    Some((pages * rustix::param::page_size() as u64) as f64)
}
