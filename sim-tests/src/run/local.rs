//! What runs on the same runtime as the plan itself: the server's task, and those of the clients.

use std::collections::BTreeMap;

use tokio::task::JoinHandle;
use unisono::{Room, server};

use crate::history::Client;

#[derive(Default)]
pub(super) struct Local {
    server: Option<JoinHandle<Result<(), server::Error>>>,
    /// Each on a host.
    clients: BTreeMap<Client, (u8, JoinHandle<()>)>,
    /// What whoever keeps the server has to say.
    announcing: Vec<JoinHandle<()>>,
}

impl Local {
    pub(super) fn serve(&mut self, server: impl Future<Output = Result<(), server::Error>> + Send + 'static) {
        self.server = Some(tokio::spawn(server));
    }

    /// Waits for the end of a server that was asked to end.
    pub(super) async fn stopped(&mut self) -> Result<(), String> {
        let server = self.server.take().expect("it was started");
        server.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }

    pub(super) async fn crash(&mut self) {
        if let Some(server) = self.server.take() {
            server.abort();
            let _ended = server.await;
        }
    }

    pub(super) fn connect(&mut self, client: Client, host: u8, living: impl Future<Output = ()> + Send + 'static) {
        self.clients.insert(client, (host, tokio::spawn(living)));
    }

    pub(super) fn announce(&mut self, room: Room, text: String) {
        self.announcing.push(tokio::spawn(async move {
            let _said = room.announce(text.as_bytes()).await;
        }));
    }

    pub(super) fn is_there(&self, client: Client) -> bool {
        self.clients.get(&client).is_some_and(|(_, task)| !task.is_finished())
    }

    /// Kills every client of a host.
    pub(super) fn crash_host(&self, host: u8) {
        self.clients.values().filter(|(of, _)| *of == host).for_each(|(_, task)| task.abort());
    }

    /// Waits for the clients, of whom all are told to end.
    pub(super) async fn finish(&mut self) {
        for (_, task) in std::mem::take(&mut self.clients).into_values() {
            // Killed with its host, or over by now.
            let _ended = task.await;
        }
        for task in self.announcing.drain(..) {
            task.await.expect("its room has ended");
        }
    }
}
