//! The only table from our errors to the codes of gRPC and HTTP.

use axum::http::StatusCode;
use ired_worker::{CompileFailure, FailureKind, RuntimeFailure};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::error::{CompileError, Error};

/// The gRPC code of an error.
pub fn code(error: &Error) -> Code {
    match error {
        Error::UnknownModel { .. } | Error::UnknownVersion { .. } => Code::NotFound,
        Error::UnknownRegion | Error::NoSharedMemory | Error::UnknownTrace(_) => Code::NotFound,
        Error::NotReady { .. } | Error::Stopping => Code::Unavailable,
        Error::Load { cause, .. } => code(cause),
        Error::Invalid(_) => Code::InvalidArgument,
        Error::Unsupported(_) | Error::NoSuchMethod(_) | Error::NoCuda => Code::Unimplemented,
        Error::Decoupled { .. } => Code::Unimplemented,
        Error::TooLarge { .. } | Error::Refused(_) | Error::Busy { .. } => Code::ResourceExhausted,
        Error::Throttled(_) => Code::ResourceExhausted,
        Error::DeadlineExceeded | Error::SlowBody(_) => Code::DeadlineExceeded,
        Error::AlreadyExists { .. } | Error::RegionExists => Code::AlreadyExists,
        Error::Trial(trial) => trial.cause().map_or(Code::FailedPrecondition, code),
        Error::NotAnUpload { .. } | Error::Profiled { .. } | Error::Label(_) => Code::FailedPrecondition,
        Error::Untrusted(_) => Code::PermissionDenied,
        Error::Unauthenticated(_) => Code::Unauthenticated,
        Error::Forbidden { .. } | Error::OtherSite => Code::PermissionDenied,
        Error::Runtime(failure) => runtime(failure),
        Error::Compile(failure) => compile(failure),
        Error::Store(failure) if failure.is_full() => Code::ResourceExhausted,
        Error::Store(_) => Code::Internal,
    }
}

fn runtime(failure: &RuntimeFailure) -> Code {
    match failure {
        RuntimeFailure::InvalidInput { .. } => Code::InvalidArgument,
        RuntimeFailure::NoSuchEntry { .. } => Code::NotFound,
        RuntimeFailure::DeadlineExceeded => Code::DeadlineExceeded,
        RuntimeFailure::Cancelled => Code::Cancelled,
        RuntimeFailure::Unavailable { .. } => Code::Unavailable,
        RuntimeFailure::OutOfMemory { .. } | RuntimeFailure::Overloaded { .. } => Code::ResourceExhausted,
        // The request's values are at fault: an index out of range.
        RuntimeFailure::Execution { .. } => Code::InvalidArgument,
        RuntimeFailure::Load { .. } => Code::FailedPrecondition,
        RuntimeFailure::Protocol { .. } => Code::Internal,
    }
}

fn compile(failure: &CompileError) -> Code {
    match failure {
        CompileError::Worker { cause, .. } => match cause {
            CompileFailure::Failed { kind, .. } => match kind {
                FailureKind::Unsupported => Code::Unimplemented,
                FailureKind::InvalidModel | FailureKind::MissingFile => Code::InvalidArgument,
                FailureKind::ResourceLimit => Code::ResourceExhausted,
                FailureKind::Internal => Code::Internal,
            },
            CompileFailure::TimedOut { .. } | CompileFailure::OutOfMemory { .. } => Code::ResourceExhausted,
            // To be tried again: nothing is wrong with the model.
            CompileFailure::Killed { .. } => Code::Unavailable,
            CompileFailure::Crashed { .. } | CompileFailure::Spawn(_) | CompileFailure::Protocol(_) => {
                Code::Internal
            }
        },
        CompileError::Quarantined { .. } | CompileError::IsModule { .. } => Code::FailedPrecondition,
        CompileError::SourceChanged { .. } => Code::Aborted,
        CompileError::QueueFull { .. } | CompileError::NoMemory { .. } => Code::ResourceExhausted,
        CompileError::Abandoned => Code::Cancelled,
        CompileError::Store(failure) if failure.is_full() => Code::ResourceExhausted,
        CompileError::Store(_) => Code::Internal,
    }
}

/// The HTTP code of an error: that of its gRPC code, or a more telling one.
pub fn http(error: &Error) -> StatusCode {
    match error {
        Error::Load { cause, .. } => http(cause),
        Error::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        // A rate and a tenant's limits are the client's to keep; what else there is no room for is the server's.
        Error::Refused(refusal) if refusal.is_callers() => StatusCode::TOO_MANY_REQUESTS,
        Error::Refused(_) => StatusCode::SERVICE_UNAVAILABLE,
        Error::SlowBody(_) => StatusCode::REQUEST_TIMEOUT,
        // As of a device that is not there.
        Error::NoSuchMethod(_) | Error::NoCuda => StatusCode::NOT_FOUND,
        // The model is at fault, not this server's age.
        Error::Compile(_) if code(error) == Code::Unimplemented => StatusCode::UNPROCESSABLE_ENTITY,
        _ => match code(error) {
            Code::InvalidArgument => StatusCode::BAD_REQUEST,
            Code::Unauthenticated => StatusCode::UNAUTHORIZED,
            Code::PermissionDenied => StatusCode::FORBIDDEN,
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::AlreadyExists | Code::Aborted | Code::FailedPrecondition => StatusCode::CONFLICT,
            Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
            Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
            Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
            // nginx's "client closed request"; nobody is left to read it.
            Code::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        },
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let (code, text) = (code(&error), error.to_string());
        let text = ired_worker::printable(&text);
        match error.retry_after() {
            Some(after) => Status::with_error_details(code, text, ErrorDetails::with_retry_info(Some(after))),
            None => Status::new(code, text),
        }
    }
}
