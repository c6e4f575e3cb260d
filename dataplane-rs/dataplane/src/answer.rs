//! Answers as they cross the FFI: JSON in a C string.

use std::any::Any;
use std::ffi::{CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::Serialize;

/// JSON of what a call gives, or one line that says what failed.
pub struct Answer(Vec<u8>);

#[derive(Serialize)]
enum Body<'a, T> {
    #[serde(rename = "ok")]
    Ok(&'a T),
    #[serde(rename = "error")]
    Error(&'a str),
}

impl Answer {
    /// The answer of a call that succeeded.
    pub fn ok<T: Serialize>(value: &T) -> Result<Self, String> {
        serde_json::to_vec(&Body::Ok(value))
            .map(Self)
            .map_err(|e| format!("cannot write the answer: {e}"))
    }

    fn error(message: &str) -> Self {
        let body: Body<'_, ()> = Body::Error(message);
        Self(serde_json::to_vec(&body).unwrap_or_else(|_| br#"{"error":""}"#.to_vec()))
    }

    fn into_raw(self) -> *mut c_char {
        // JSON escapes NUL, so there is none in it.
        CString::new(self.0).unwrap_or_default().into_raw()
    }
}

/// Runs a call and hands its answer, or its panic, to C.
pub fn give(call: impl FnOnce() -> Result<Answer, String>) -> *mut c_char {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(answer)) => answer.into_raw(),
        Ok(Err(message)) => Answer::error(&message).into_raw(),
        Err(panic) => panicked(panic.as_ref()),
    }
}

/// A panic as an answer.
pub fn panicked(panic: &(dyn Any + Send)) -> *mut c_char {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message");
    Answer::error(&format!("the data plane panicked: {text}")).into_raw()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(answer: *mut c_char) -> String {
        // SAFETY: made by `give` just now.
        unsafe { CString::from_raw(answer) }.into_string().unwrap()
    }

    #[test]
    fn answers() {
        assert_eq!(text(give(|| Answer::ok(&1))), r#"{"ok":1}"#);
        assert_eq!(
            text(give(|| Err("no \"x\"\0".to_string()))),
            r#"{"error":"no \"x\"\u0000"}"#
        );
    }

    #[test]
    fn a_panic_is_an_error() {
        let answer = text(give(|| panic!("at {}", 7)));
        assert_eq!(answer, r#"{"error":"the data plane panicked: at 7"}"#);
    }
}
