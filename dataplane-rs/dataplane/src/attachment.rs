//! What [`crate::dp_attachment`] is asked for.

use netlink::attach::{self, Attachment, Detachment};
use serde::Deserialize;

use crate::answer::Answer;

/// `AttachmentCall` of `dataplane/attachment.ts`.
#[derive(Deserialize, Debug)]
#[serde(rename_all = "lowercase")]
enum Call {
    Add(Box<Attachment>),
    Check(Box<Attachment>),
    Remove(Detachment),
}

/// Does what `json` asks for.
pub fn carry_out(json: &[u8]) -> Result<Answer, String> {
    let call = serde_json::from_slice(json)
        .map_err(|e| format!("the attachment is not understood: {e}"))?;
    match call {
        Call::Add(wanted) => Answer::ok(&attach::add(&wanted)?),
        Call::Check(wanted) => Answer::ok(&attach::check(&wanted)?),
        Call::Remove(unwanted) => Answer::ok(&attach::remove(&unwanted)?),
    }
}
