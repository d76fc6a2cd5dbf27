//! Errors of the log as the protocol's codes.

use kafka_protocol::error::ResponseError;

use crate::Error;
use crate::batch::foreign::Refusal;
use crate::partition::Refused;
use crate::producers::Misfit;

/// The code of an error, with what is to be told where the answer has room for it.
pub(super) type Code = (i16, String);

/// A batch that is not taken.
pub(super) fn refusal(refusal: Refusal) -> Code {
    let (code, reason) = match refusal {
        Refusal::Corrupt(reason) => (ResponseError::CorruptMessage, reason),
        Refusal::OldFormat => (ResponseError::InvalidRecord, "messages of before version 2 are not taken"),
        Refusal::Compressed => (ResponseError::UnsupportedCompressionType, "compressed batches are not taken"),
        Refusal::TooLarge(reason) => (ResponseError::MessageTooLarge, reason),
        Refusal::Timestamp(reason) => (ResponseError::InvalidTimestamp, reason),
        Refusal::Invalid(reason) => (ResponseError::InvalidRecord, reason),
    };
    (code.code(), reason.to_owned())
}

/// An append that is not in the log.
pub(super) fn refused(refused: Refused) -> Code {
    match refused {
        Refused::Misfit(misfit @ Misfit::OldEpoch { .. }) => {
            (ResponseError::InvalidProducerEpoch.code(), misfit.to_string())
        }
        Refused::Misfit(misfit @ Misfit::OutOfOrder { .. }) => {
            (ResponseError::OutOfOrderSequenceNumber.code(), misfit.to_string())
        }
        Refused::Log(error) => log(&error),
    }
}

/// Any other error.
///
/// A full log is "not enough replicas": of the codes that tell a producer to try again, the one that every client takes to
/// mean that the batch is not stored. A log that stopped is the code of a broken disk, which a client also tries again, and
/// which leaves open whether the batch is stored.
pub(super) fn log(error: &Error) -> Code {
    let code = match error {
        Error::Full(_) => ResponseError::NotEnoughReplicas,
        Error::Io { .. } | Error::Poisoned(_) | Error::Corrupt { .. } => ResponseError::KafkaStorageError,
        Error::OutOfRange { .. } => ResponseError::OffsetOutOfRange,
        Error::Remote(_) | Error::Payload { .. } => ResponseError::UnknownServerError,
        Error::Invalid(_) => ResponseError::InvalidRequest,
    };
    (code.code(), error.to_string())
}
