//! `arrow.flight.protocol.FlightService`: Feast's remote offline store, in its two call
//! sequences: one `DoExchange` (Feast 0.67), and `DoPut`, `GetFlightInfo`, `DoGet` (before).

mod limits;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

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
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use tonic::{Code, Request, Response, Status, Streaming};
use tower::Service as _;
use web::{Identity, Permission, Routes};

use super::fault;
use super::leaving::leaving;
use crate::FeatureStore;
use crate::error::Error;
use crate::memory::Freed;
use crate::offline::{Answer as Rows, Command, Held, UPLOAD_LIMIT, Upload};
use crate::stream as arrow_stream;

const SERVICE: &str = "arrow.flight.protocol.FlightService";

/// The largest message of calls that bring a table, in bytes, and of the others. pyarrow sends a
/// table's batches as they are.
const TABLE_LIMIT: usize = UPLOAD_LIMIT;
const MESSAGE_LIMIT: usize = 1024 * 1024;

pub(super) fn routes(
    mut routes: Routes<FeatureStore>,
    store: FeatureStore,
) -> Routes<FeatureStore> {
    let service = FlightServiceServer::new(Flight {
        store: store.clone(),
    })
    .max_encoding_message_size(TABLE_LIMIT);
    for (name, limit) in [
        ("DoExchange", TABLE_LIMIT),
        ("DoPut", TABLE_LIMIT),
        ("GetFlightInfo", MESSAGE_LIMIT),
        ("DoGet", MESSAGE_LIMIT),
    ] {
        let service = service.clone().max_decoding_message_size(limit);
        let uploads = store.uploads.clone();
        let handler = move |request: HttpRequest| {
            let mut service = service.clone();
            let held = uploads.begin();
            async move {
                let (mut parts, body) = request.into_parts();
                parts.extensions.insert(held.clone());
                let body = Body::from_stream(limits::arriving(body, held));
                let request = HttpRequest::from_parts(parts, body);
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

/// An error of a read. Clients find out by the status whether the same read may pass later: pyarrow
/// raises `FlightUnavailableError`. Feast's SDK 0.67 tells its user too, and asks again by itself
/// only where the call fails at once (`connection_retries`), which a read by `DoExchange` does not.
/// Writes are not refused so: what was written might be written twice.
fn refused_read(error: &Error) -> Status {
    let refused = refused(error);
    match error.code() {
        web::Code::Unavailable => Status::unavailable(refused.message()),
        _ => refused,
    }
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

/// The command and the table that a client sends.
async fn receive(request: Request<Streaming<FlightData>>) -> Result<Upload, Status> {
    let held = request.extensions().get::<Arc<Held>>().cloned();
    let held = held.ok_or_else(|| Status::internal("the size of an upload is not counted"))?;
    let mut messages = request.into_inner();
    let first = messages.message().await?;
    let first = first.ok_or_else(|| refused(&Error::Invalid("the upload is empty".to_owned())))?;
    let command = command_of(first.flight_descriptor.as_ref()).map_err(|e| refused(&e))?;
    // The first message may hold nothing but the descriptor.
    let messages = stream::iter([Ok(first)])
        .chain(messages)
        .try_filter(|data| std::future::ready(!data.data_header.is_empty()))
        .and_then(|data| std::future::ready(whole(data)));
    let mut table =
        FlightRecordBatchStream::new_from_flight_data(messages.map_err(FlightError::from).boxed());
    Ok(Upload {
        command,
        table: gather(&mut table, &held).await?,
        held,
    })
}

/// A message whose head names no bytes outside of its body.
fn whole(data: FlightData) -> Result<FlightData, Status> {
    match arrow_stream::rows_of(&data.data_header, data.data_body.len()) {
        Ok(_) => Ok(data),
        Err(error) => Err(unreadable(&error)),
    }
}

fn unreadable(why: &dyn std::fmt::Display) -> Status {
    refused(&Error::Invalid(format!("the table cannot be read: {why}")))
}

async fn gather(table: &mut FlightRecordBatchStream, held: &Held) -> Result<RecordBatch, Status> {
    let broken = |error: FlightError| match error {
        FlightError::Tonic(status) => *status,
        other => unreadable(&other),
    };
    let (mut batches, mut rows) = (Vec::new(), 0_usize);
    loop {
        // The decoder panics over some messages that are damaged.
        let next = AssertUnwindSafe(table.try_next()).catch_unwind().await;
        let next = next.map_err(|_panic| unreadable(&"it is damaged"))?;
        let Some(batch) = next.map_err(broken)? else {
            break;
        };
        rows = rows.saturating_add(batch.num_rows());
        arrow_stream::few_enough(rows).map_err(|e| refused(&e))?;
        batches.push(batch);
    }
    if let [only] = batches.as_slice() {
        return Ok(only.clone());
    }
    let schema = table
        .schema()
        .cloned()
        .unwrap_or_else(|| Arc::new(Schema::empty()));
    // There are two of it for a moment.
    let arrived = held.bytes();
    let room = |bytes: usize| held.resize(bytes).map_err(|e| limits::status(&e));
    room(2 * arrived)?;
    let whole = concat_batches(&schema, &batches).map_err(|e| refused(&Error::from(e)))?;
    drop(batches);
    room(arrived)?;
    Ok(whole)
}

fn encoded(rows: Rows) -> BoxStream<'static, Result<FlightData, Status>> {
    let sent = Freed::default();
    let batches = rows
        .batches
        .inspect_ok(move |batch| sent.add(batch.get_array_memory_size()))
        .map_err(|error| FlightError::Tonic(Box::new(refused(&error))));
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
        held: Arc<Held>,
        caller: &Identity,
    ) -> Answer<BoxStream<'static, Result<FlightData, Status>>> {
        let rows = self
            .store
            .offline(command, table, caller)
            .await
            .map_err(|e| refused_read(&e))?;
        let parts = encoded(rows).inspect(move |_| {
            // The entity rows that are not joined yet.
            let _held = &held;
        });
        let sent = leaving(&self.store, parts.boxed(), Status::deadline_exceeded);
        Ok(Response::new(sent))
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
        let Upload {
            command,
            table,
            held,
        } = receive(request).await?;
        self.answer(&command, table, held, &caller).await
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Answer<Self::DoPutStream> {
        let caller = caller_of(&request);
        let upload = receive(request).await?;
        if upload.command.is_write() {
            self.store
                .offline_write(&upload.command, upload.table, &caller)
                .await
                .map_err(|e| refused(&e))?;
        } else {
            let uploads = &self.store.uploads;
            uploads.keep(&caller, upload).map_err(|e| refused(&e))?;
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
        let uploads = &self.store.uploads;
        let upload = uploads.take(&caller, id).map_err(|e| refused(&e))?;
        let (table, held) = (upload.table.clone(), upload.held.clone());
        let answer = self.answer(&upload.command, table, held, &caller).await;
        if matches!(&answer, Err(refused) if refused.code() == Code::Unavailable) {
            // Who asks again finds it.
            uploads.give_back(&caller, upload);
        }
        answer
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
    fn a_read_that_may_pass_later_says_so_by_its_status() {
        let later = Error::Later {
            what: "all workers are busy".to_owned(),
            help: "try again",
        };
        assert_eq!(refused_read(&later).code(), Code::Unavailable);
        assert!(refused_read(&later).message().contains("Flight error: {"));
        assert_eq!(refused(&later).code(), Code::Internal);
        let wrong = Error::Invalid("no such column".to_owned());
        assert_eq!(refused_read(&wrong).code(), Code::Internal);
    }

    #[tokio::test]
    async fn rows_without_bytes_are_counted() {
        let upload = |length| {
            let column: arrow_array::ArrayRef = Arc::new(arrow_array::NullArray::new(length));
            let batch = RecordBatch::try_from_iter([("event_timestamp", column)]).unwrap();
            let sent = FlightDataEncoderBuilder::new().build(stream::iter([Ok(batch)]));
            FlightRecordBatchStream::new_from_flight_data(sent)
        };
        let held = crate::offline::Uploads::default().begin();
        let rows = gather(&mut upload(3), &held).await.unwrap();
        assert_eq!(rows.num_rows(), 3);
        let refused = gather(&mut upload(1 << 46), &held).await.unwrap_err();
        assert!(refused.message().contains("in parts"), "{refused}");
    }
}
