//! The live WebSocket of the dashboard.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{FromRequestParts, Request, State};
use axum::response::{IntoResponse, Response};
use pulsestream_core::auth::Action;
use pulsestream_core::id::TenantId;
use pulsestream_core::ports::live_bus::LiveSubscription;
use pulsestream_core::time::Timestamp;
use pulsestream_core::{Error, ErrorKind};
use serde_json::Value;

use super::overview::{alerts_of, latest_events, overview_of};
use super::pushed;
use super::socket_message::{self as say, ClientMessage, DataType, Following, Topic};
use crate::access::Caller;
use crate::app::App;
use crate::failure::{Answer, Failure};
use crate::input::Params;
use crate::live::{RECHECK, Standing};

/// The largest message of a client.
const MAX_MESSAGE_BYTES: usize = 16 << 10;
/// How often the connection is tried, so that one whose client is gone does not stay.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// How long a client may take to receive a message before it is given up.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) async fn connect(
    State(app): State<App>,
    caller: Caller,
    params: Params,
    request: Request,
) -> Answer<Response> {
    if params.text("tenant_id")?.parse::<TenantId>().ok() != Some(caller.tenant()) {
        let message = "the tenant in the path is not the caller's";
        return Err(Error::new(ErrorKind::Forbidden, "dashboard.socket", message).into());
    }
    let (mut parts, _) = request.into_parts();
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &app).await.map_err(|_| {
        Failure::bad_request(
            "websocket_expected",
            "this call opens a WebSocket, which takes an upgrade request",
        )
    })?;
    let tenant = caller.tenant();
    let connected = app.live.take(tenant)?;
    let subscription = app.ps.tenant(tenant).live().await?;
    let standing = Standing::new(app.clone(), caller, Action::ReadEvents, &parts.headers);
    let session = Session { app, tenant, standing, following: Following::default() };
    Ok(upgrade
        .max_message_size(MAX_MESSAGE_BYTES)
        .max_frame_size(MAX_MESSAGE_BYTES)
        .on_upgrade(move |socket| async move {
            session.run(socket, subscription).await;
            drop(connected);
        })
        .into_response())
}

/// One connection.
struct Session {
    app: App,
    tenant: TenantId,
    /// The credential, which ends the connection with it.
    standing: Standing,
    following: Following,
}

impl Session {
    async fn run(mut self, mut socket: WebSocket, mut subscription: Box<dyn LiveSubscription>) {
        let mut pings = tokio::time::interval(PING_INTERVAL);
        loop {
            if !self.standing.lasts().await {
                return close(&mut socket, close_code::POLICY, "the credential has ended").await;
            }
            let reply = tokio::select! {
                received = socket.recv() => match received {
                    Some(Ok(Message::Text(text))) => Some(Message::from(self.answer(&text).await)),
                    Some(Ok(Message::Binary(bytes))) => match std::str::from_utf8(&bytes) {
                        Ok(text) => Some(Message::from(self.answer(text).await)),
                        Err(_) => Some(Message::from(say::error("messages are JSON", self.now()))),
                    },
                    // The protocol answers a ping by itself.
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => None,
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                },
                message = subscription.next() => match message {
                    Ok(Some(message)) if self.following.wants(message.topic) => {
                        pushed::text(&message, subscription.missed(), self.now()).map(Message::from)
                    }
                    Ok(Some(_)) => None,
                    Ok(None) | Err(_) => return close(&mut socket, close_code::AWAY, "the server stops").await,
                },
                _ = pings.tick() => Some(Message::Ping(bytes::Bytes::new())),
                () = tokio::time::sleep(RECHECK) => None,
            };
            if let Some(reply) = reply
                && !matches!(tokio::time::timeout(SEND_TIMEOUT, socket.send(reply)).await, Ok(Ok(())))
            {
                return;
            }
        }
    }

    fn now(&self) -> Timestamp {
        self.app.ps.env().now()
    }

    async fn answer(&mut self, text: &str) -> String {
        match serde_json::from_str(text) {
            Ok(
                ClientMessage::Subscribe { subscription: Some(Topic::Alerts) }
                | ClientMessage::GetData { data_type: DataType::Alerts },
            ) if !self.standing.allows(Action::ReadAlerts) => {
                say::error("the credential does not allow to read alerts", self.now())
            }
            Ok(ClientMessage::Subscribe { subscription }) => {
                self.following.set(subscription, true);
                if !self.standing.allows(Action::ReadAlerts) {
                    self.following.set(Some(Topic::Alerts), false);
                }
                say::confirmed("subscription_confirmed", self.following, self.now())
            }
            Ok(ClientMessage::Unsubscribe { subscription }) => {
                self.following.set(subscription, false);
                say::confirmed("unsubscription_confirmed", self.following, self.now())
            }
            Ok(ClientMessage::Heartbeat {}) => say::heartbeat(self.now()),
            Ok(ClientMessage::GetData { data_type }) => match self.data(data_type).await {
                Ok(data) => say::data(data_type, &data, self.now()),
                Err(failure) => say::error(failure.message(), self.now()),
            },
            Err(_) => say::error(
                "a message is {\"type\": \"subscribe\"|\"unsubscribe\"|\"get_data\"|\"heartbeat\"}, with subscription \
                 events or alerts, or data_type overview, events or alerts",
                self.now(),
            ),
        }
    }

    async fn data(&self, data_type: DataType) -> Answer<Value> {
        let data = match data_type {
            DataType::Overview => serde_json::to_value(overview_of(&self.app, self.tenant).await?),
            DataType::Events => serde_json::to_value(latest_events(&self.app, self.tenant, 50).await?),
            DataType::Alerts => serde_json::to_value(alerts_of(&self.app, self.tenant).await?),
        };
        data.map_err(|error| {
            Error::new(ErrorKind::Internal, "dashboard.socket", "the data cannot be written")
                .with_source(error)
                .into()
        })
    }
}

async fn close(socket: &mut WebSocket, code: u16, reason: &'static str) {
    let frame = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
    // A client that is gone already needs no farewell.
    let _ = tokio::time::timeout(SEND_TIMEOUT, socket.send(frame)).await;
}
