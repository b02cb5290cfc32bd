//! `arrow.flight.protocol.FlightService`: Feast's remote offline store, in its two call
//! sequences: one `DoExchange` (Feast 0.67), and `DoPut`, `GetFlightInfo`, `DoGet` (before).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arrow_array::RecordBatch;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightEndpoint, FlightInfo,
    HandshakeRequest, HandshakeResponse, PollInfo, PutResult, SchemaResult, Ticket,
};
use arrow_schema::Schema;
use arrow_select::concat::concat_batches;
use axum::body::Body;
use axum::extract::Request as HttpRequest;
use axum::response::Response as HttpResponse;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Code, Request, Response, Status, Streaming};
use tower::Service as _;
use web::{Identity, Permission, Routes};

use super::fault;
use crate::FeatureStore;
use crate::error::Error;
use crate::offline::{Answer as Rows, Command};
use crate::stream as arrow_stream;

const SERVICE: &str = "arrow.flight.protocol.FlightService";

/// The largest message of an upload, in bytes. pyarrow sends a table's batches as they are.
const MESSAGE_LIMIT: usize = UPLOAD_LIMIT;

/// The largest upload in all, in bytes: some 20 million entity rows.
const UPLOAD_LIMIT: usize = 512 * 1024 * 1024;

/// How many mebibytes all uploads together may hold, those that are answered and those that wait for
/// their `DoGet`; and how long one waits.
const ROOM_MIB: usize = 1024;

const WAITING_TIME: Duration = Duration::from_secs(600);

pub(super) fn routes(
    mut routes: Routes<FeatureStore>,
    store: FeatureStore,
) -> Routes<FeatureStore> {
    let service = FlightServiceServer::new(Flight {
        store,
        waiting: Arc::default(),
        room: Arc::new(Semaphore::new(ROOM_MIB)),
    })
    .max_decoding_message_size(MESSAGE_LIMIT)
    .max_encoding_message_size(MESSAGE_LIMIT);
    for name in ["DoExchange", "DoPut", "GetFlightInfo", "DoGet"] {
        let service = service.clone();
        let handler = move |request: HttpRequest| {
            let mut service = service.clone();
            async move {
                let Ok(response): Result<_, std::convert::Infallible> = service.call(request).await;
                let response: HttpResponse = response.map(Body::new);
                response
            }
        };
        routes = routes.post(
            &format!("/{SERVICE}/{name}"),
            Permission::ReadFeatures,
            handler,
        );
    }
    routes
}

struct Flight {
    store: FeatureStore,
    /// Uploads of older clients, by the id of their command.
    waiting: Arc<Mutex<HashMap<String, Waiting>>>,
    /// In mebibytes.
    room: Arc<Semaphore>,
}

struct Waiting {
    command: Command,
    table: RecordBatch,
    since: Instant,
    _held: Held,
}

/// The memory of an upload, which others cannot have until it is dropped.
struct Held {
    room: Arc<Semaphore>,
    permits: Mutex<Vec<OwnedSemaphorePermit>>,
}

impl Held {
    fn new(room: &Arc<Semaphore>) -> Self {
        Self {
            room: room.clone(),
            permits: Mutex::default(),
        }
    }

    /// Holds as much as `bytes` need in all.
    fn grow(&self, bytes: usize) -> Result<(), Status> {
        if bytes > UPLOAD_LIMIT {
            return Err(Status::resource_exhausted(
                "the table is larger than 512 MiB: send it in parts",
            ));
        }
        let mut permits = self.permits.lock().unwrap_or_else(PoisonError::into_inner);
        while permits.len() < bytes.div_ceil(1024 * 1024) {
            let more = self.room.clone().try_acquire_owned().map_err(|_| {
                Status::resource_exhausted(
                    "the uploads that are being read hold all the memory that there is for them (1 GiB): try again in some minutes, or send smaller tables",
                )
            })?;
            permits.push(more);
        }
        Ok(())
    }
}

type Answer<T> = Result<Response<T>, Status>;

/// An error as the client finds it: pyarrow shows the status message, and the SDK looks for
/// `Flight error: ` and the JSON behind it.
fn refused(error: &Error) -> Status {
    Status::new(
        Code::Internal,
        format!("Flight error: {}", fault::detail(error)),
    )
}

/// Who calls, as the door found out.
fn caller_of<T>(request: &Request<T>) -> Identity {
    let found = request.extensions().get::<Identity>();
    found.cloned().unwrap_or(Identity::Anonymous)
}

fn not_feast() -> Status {
    Status::unimplemented("Feast's remote offline store does not use this call")
}

fn command_of(descriptor: Option<&FlightDescriptor>) -> Result<Command, Error> {
    let descriptor = descriptor
        .ok_or_else(|| Error::Invalid("the first message has no Flight descriptor".to_owned()))?;
    Command::parse(&descriptor.cmd)
}

/// The command and the table of an upload.
async fn receive(
    mut messages: Streaming<FlightData>,
    room: &Arc<Semaphore>,
) -> Result<(Command, RecordBatch, Held), Status> {
    let held = Arc::new(Held::new(room));
    let growing = held.clone();
    let first = messages.message().await?;
    let first = first.ok_or_else(|| refused(&Error::Invalid("the upload is empty".to_owned())))?;
    let command = command_of(first.flight_descriptor.as_ref()).map_err(|e| refused(&e))?;
    let mut bytes = 0;
    // The first message may hold nothing but the descriptor.
    let messages = stream::iter([Ok(first)])
        .chain(messages)
        .try_filter_map(move |data| {
            bytes += data.data_body.len();
            let kept = growing.grow(bytes);
            let kept = kept.map(|()| (!data.data_header.is_empty()).then_some(data));
            std::future::ready(kept)
        });
    let mut table =
        FlightRecordBatchStream::new_from_flight_data(messages.map_err(FlightError::from).boxed());
    let rows = gather(&mut table).await?;
    // The stream has the other share of it.
    drop(table);
    let held = Arc::into_inner(held).ok_or_else(|| Status::internal("an upload has two owners"))?;
    Ok((command, rows, held))
}

async fn gather(table: &mut FlightRecordBatchStream) -> Result<RecordBatch, Status> {
    let broken = |error: FlightError| match error {
        FlightError::Tonic(status) => *status,
        other => refused(&Error::Invalid(format!(
            "the table cannot be read: {other}"
        ))),
    };
    let (mut batches, mut rows) = (Vec::new(), 0_usize);
    while let Some(batch) = table.try_next().await.map_err(broken)? {
        rows = rows.saturating_add(batch.num_rows());
        arrow_stream::few_enough(rows).map_err(|e| refused(&e))?;
        batches.push(batch);
    }
    let schema = table
        .schema()
        .cloned()
        .unwrap_or_else(|| Arc::new(Schema::empty()));
    concat_batches(&schema, &batches).map_err(|e| refused(&Error::from(e)))
}

fn send(rows: Rows) -> BoxStream<'static, Result<FlightData, Status>> {
    let batches = rows.batches;
    let batches = batches.map_err(|error| FlightError::Tonic(Box::new(refused(&error))));
    FlightDataEncoderBuilder::new()
        .with_schema(rows.schema)
        .build(batches)
        .map_err(Status::from)
        .boxed()
}

impl Flight {
    async fn answer(
        &self,
        command: &Command,
        table: RecordBatch,
        caller: &Identity,
    ) -> Answer<BoxStream<'static, Result<FlightData, Status>>> {
        let rows = self
            .store
            .offline(command, table, caller)
            .await
            .map_err(|e| refused(&e))?;
        Ok(Response::new(send(rows)))
    }

    /// Drops the uploads that nobody asked for.
    fn forget_old(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, w| w.since.elapsed() < WAITING_TIME);
    }

    fn keep(&self, command: Command, table: RecordBatch, held: Held) -> Result<(), Status> {
        if command.command_id.is_empty() {
            return Err(refused(&Error::Invalid(
                "the Flight command has no command_id".to_owned(),
            )));
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let id = command.command_id.clone();
        waiting.insert(
            id,
            Waiting {
                command,
                table,
                since: Instant::now(),
                _held: held,
            },
        );
        Ok(())
    }
}

#[tonic::async_trait]
impl FlightService for Flight {
    type HandshakeStream = BoxStream<'static, Result<HandshakeResponse, Status>>;
    type ListFlightsStream = BoxStream<'static, Result<FlightInfo, Status>>;
    type DoGetStream = BoxStream<'static, Result<FlightData, Status>>;
    type DoPutStream = BoxStream<'static, Result<PutResult, Status>>;
    type DoActionStream = BoxStream<'static, Result<arrow_flight::Result, Status>>;
    type ListActionsStream = BoxStream<'static, Result<ActionType, Status>>;
    type DoExchangeStream = BoxStream<'static, Result<FlightData, Status>>;

    async fn do_exchange(
        &self,
        request: Request<Streaming<FlightData>>,
    ) -> Answer<Self::DoExchangeStream> {
        let caller = caller_of(&request);
        self.forget_old();
        let (command, table, _held) = receive(request.into_inner(), &self.room).await?;
        self.answer(&command, table, &caller).await
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Answer<Self::DoPutStream> {
        let caller = caller_of(&request);
        self.forget_old();
        let (command, table, held) = receive(request.into_inner(), &self.room).await?;
        if command.is_write() {
            self.store
                .offline_write(&command, table, &caller)
                .await
                .map_err(|e| refused(&e))?;
        } else {
            self.keep(command, table, held)?;
        }
        Ok(Response::new(stream::empty().boxed()))
    }

    async fn get_flight_info(&self, request: Request<FlightDescriptor>) -> Answer<FlightInfo> {
        let descriptor = request.into_inner();
        let command = command_of(Some(&descriptor)).map_err(|e| refused(&e))?;
        let endpoint = FlightEndpoint::new().with_ticket(Ticket::new(command.command_id));
        let info = FlightInfo::new()
            .with_descriptor(descriptor)
            .with_endpoint(endpoint)
            .try_with_schema(&Schema::empty())
            .map_err(|e| refused(&Error::from(e)))?;
        Ok(Response::new(info))
    }

    async fn do_get(&self, request: Request<Ticket>) -> Answer<Self::DoGetStream> {
        let caller = caller_of(&request);
        let ticket = request.into_inner().ticket;
        let id = String::from_utf8_lossy(&ticket).into_owned();
        let waiting = self
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&id);
        let waiting = waiting.ok_or_else(|| {
            refused(&Error::Invalid(
                "the upload of this ticket is not here: it was read already, or waited too long"
                    .to_owned(),
            ))
        })?;
        self.answer(&waiting.command, waiting.table, &caller).await
    }

    async fn handshake(
        &self,
        _: Request<Streaming<HandshakeRequest>>,
    ) -> Answer<Self::HandshakeStream> {
        Err(not_feast())
    }

    async fn list_flights(&self, _: Request<Criteria>) -> Answer<Self::ListFlightsStream> {
        Err(not_feast())
    }

    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Answer<PollInfo> {
        Err(not_feast())
    }

    async fn get_schema(&self, _: Request<FlightDescriptor>) -> Answer<SchemaResult> {
        Err(not_feast())
    }

    async fn do_action(&self, _: Request<Action>) -> Answer<Self::DoActionStream> {
        Err(not_feast())
    }

    async fn list_actions(&self, _: Request<Empty>) -> Answer<Self::ListActionsStream> {
        Err(not_feast())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uploads_share_the_room_that_there_is_and_give_it_back() {
        let mib = 1024 * 1024;
        let room = Arc::new(Semaphore::new(10));
        let (one, other) = (Held::new(&room), Held::new(&room));
        one.grow(6 * mib).unwrap();
        one.grow(6 * mib).unwrap();
        let refused = other.grow(5 * mib).unwrap_err();
        assert!(refused.message().contains("try again"), "{refused}");
        drop((one, other));
        Held::new(&room).grow(10 * mib).unwrap();
        let large = Held::new(&Arc::new(Semaphore::new(ROOM_MIB)));
        let refused = large.grow(UPLOAD_LIMIT + 1).unwrap_err();
        assert!(refused.message().contains("in parts"), "{refused}");
    }

    #[tokio::test]
    async fn rows_without_bytes_are_counted() {
        let upload = |length| {
            let column: arrow_array::ArrayRef = Arc::new(arrow_array::NullArray::new(length));
            let batch = RecordBatch::try_from_iter([("event_timestamp", column)]).unwrap();
            let sent = FlightDataEncoderBuilder::new().build(stream::iter([Ok(batch)]));
            FlightRecordBatchStream::new_from_flight_data(sent)
        };
        assert_eq!(gather(&mut upload(3)).await.unwrap().num_rows(), 3);
        let refused = gather(&mut upload(1 << 46)).await.unwrap_err();
        assert!(refused.message().contains("in parts"), "{refused}");
    }
}
