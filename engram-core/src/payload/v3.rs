//! The structures of payload version 3.

use serde::{Deserialize, Serialize};

use super::{v1, v2::Model};

#[derive(Serialize, Deserialize)]
pub(super) struct Config {
    pub(super) form: v1::Config,
    pub(super) model: Option<Model>,
    pub(super) generation: u32,
}
