//! The table of problems: everything that can go wrong with a request.

use axum::http::StatusCode;

/// What is known of a problem before it happens.
pub(crate) struct Row {
    pub(crate) status: StatusCode,
    /// Part of the interface: it never changes its meaning.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    /// What to do, where the one who reports the problem knows nothing better.
    pub(crate) suggestion: &'static str,
}

/// Makes the enum and its rows of one table, so that neither can lack what the other has.
macro_rules! problems {
    ($($status:ident $code:ident $name:literal $title:literal $suggestion:literal;)*) => {
        /// What went wrong, for a program to act on.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Code {
            $(#[doc = $title] $code,)*
        }

        impl Code {
            /// All of them, in the order of the table.
            #[cfg(test)]
            const ALL: &[Self] = &[$(Self::$code,)*];

            /// Its row of the table.
            pub(crate) const fn row(self) -> Row {
                let (status, name, title, suggestion) = match self {
                    $(Self::$code => (StatusCode::$status, $name, $title, $suggestion),)*
                };
                Row { status, name, title, suggestion }
            }
        }
    };
}

problems! {
    BAD_REQUEST InvalidJson "invalid_json"
        "The body is not valid JSON"
        "Correct the JSON at the place that the detail names.";
    BAD_REQUEST InvalidRequest "invalid_request"
        "The request cannot be read"
        "Send the request again, whole.";
    REQUEST_TIMEOUT BodyTimeout "body_timeout"
        "The body did not arrive in time"
        "Send a smaller body, or over a faster connection.";
    UNAUTHORIZED Unauthorized "unauthorized"
        "The server wants a key"
        "Send one as Authorization: Bearer KEY; `engram key create` on the server's machine makes one.";
    FORBIDDEN Forbidden "forbidden"
        "The key is not for this"
        "Use a key that may do it; `engram key create` on the server's machine makes one.";
    FORBIDDEN ForeignOrigin "foreign_origin"
        "The request comes from a page of another site"
        "If the page is yours, start the server with --allowed-origin and its origin.";
    FORBIDDEN ForeignHost "foreign_host"
        "The request is for another host"
        "Use localhost or 127.0.0.1; or start the server with --allowed-host and the name that it has for you.";
    NOT_FOUND RouteNotFound "route_not_found"
        "There is nothing at this path"
        "Memories are at /v1/memories, questions go to /v1/recall; see also /v1/status.";
    NOT_FOUND NotFound "not_found"
        "There is no such memory"
        "Check the id; GET /v1/memories lists all memories.";
    NOT_FOUND SpaceNotFound "space_not_found"
        "There is no such space"
        "Make it with PUT /v1/spaces/{space}; GET /v1/spaces lists all spaces.";
    METHOD_NOT_ALLOWED MethodNotAllowed "method_not_allowed"
        "The path does not know this method"
        "Use one of the methods in the Allow header.";
    CONFLICT RequestInFlight "request_in_flight"
        "A request with this key is being answered"
        "Send it again a moment later, under the same key.";
    CONFLICT ReembedRunning "reembed_running"
        "All memories are being embedded anew already"
        "Wait until GET /v1/reembed says that it is over, or cancel it with DELETE /v1/reembed.";
    GONE ChangesGone "changes_gone"
        "These changes are not there any more"
        "Read all memories (GET /v1/export), and follow from the LSN after the one in the answer's Engram-Lsn header.";
    PRECONDITION_FAILED VersionMismatch "version_mismatch"
        "The memory is not of the version that was expected"
        "Read the memory, decide anew, and send its ETag with If-Match.";
    PAYLOAD_TOO_LARGE BodyTooLarge "body_too_large"
        "The body is over its limit"
        "Split what you send; /v1/memories/batch takes larger bodies.";
    PAYLOAD_TOO_LARGE BatchTooLarge "batch_too_large"
        "The batch has too many items"
        "Send the items in several batches.";
    UNSUPPORTED_MEDIA_TYPE UnsupportedMediaType "unsupported_media_type"
        "The body is of another type than expected"
        "Say what you send: with curl, add -H 'content-type: application/json'.";
    UNPROCESSABLE_ENTITY InvalidBody "invalid_body"
        "The JSON is not what is expected here"
        "Correct the field that the detail names.";
    UNPROCESSABLE_ENTITY InvalidId "invalid_id"
        "No memory can have this id"
        "Choose an id of 1 to 256 bytes without control characters, or leave it out to get one.";
    UNPROCESSABLE_ENTITY IdMismatch "id_mismatch"
        "The ids in the path and in the body differ"
        "Leave the id out of the body, or repeat the one in the path.";
    UNPROCESSABLE_ENTITY InvalidSpace "invalid_space"
        "No space can be like this"
        "Choose a name of small letters, digits, '-', '_' and '.', the first a letter or a digit.";
    UNPROCESSABLE_ENTITY InvalidHeader "invalid_header"
        "A header cannot be understood"
        "Correct the header that the detail names, or leave it out.";
    UNPROCESSABLE_ENTITY RequestKeyReused "idempotency_key_reused"
        "The key is of another request"
        "Use a key again only to repeat the same request; make a new one for each other request.";
    UNPROCESSABLE_ENTITY InvalidContent "invalid_content"
        "No memory can have this content"
        "Split a long text into several memories; leave none empty.";
    UNPROCESSABLE_ENTITY InvalidTime "invalid_time"
        "This is not a time"
        "Write times as RFC 3339, such as 2026-03-01T09:30:00Z. In a URL a + is written %2B.";
    UNPROCESSABLE_ENTITY InvalidConfidence "invalid_confidence"
        "This is not a confidence"
        "Send a number from 0 to 1, or leave it out for 1.";
    UNPROCESSABLE_ENTITY InvalidMetadata "invalid_metadata"
        "No memory can have this metadata"
        "Keep metadata flat and small: strings, numbers and booleans under short keys.";
    UNPROCESSABLE_ENTITY InvalidEmbedding "invalid_embedding"
        "The store cannot use this embedding"
        "Send the vector of the model that the store is for; GET /v1/status says its dimension.";
    UNPROCESSABLE_ENTITY EmbeddingRefused "embedding_refused"
        "The embedding model does not take this text"
        "Send another text, or an embedding of your own.";
    UNPROCESSABLE_ENTITY InvalidQuery "invalid_query"
        "The question cannot be answered"
        "Correct the parameter that the detail names.";
    UNPROCESSABLE_ENTITY InvalidFilter "invalid_filter"
        "The filter cannot be applied"
        "Correct the condition that the detail names, such as {\"user\": {\"eq\": \"ada\"}}.";
    UNPROCESSABLE_ENTITY InvalidCursor "invalid_cursor"
        "This is not a cursor"
        "Use next_cursor of the page before as it came, or leave it out to start anew.";
    INTERNAL_SERVER_ERROR Internal "internal"
        "A defect of the server"
        "Report it, with the server's log.";
    SERVICE_UNAVAILABLE Recovering "recovering"
        "The memories are being recovered"
        "Try again when GET /readyz answers 200.";
    SERVICE_UNAVAILABLE Overloaded "overloaded"
        "The server has as many requests as it takes at once"
        "Send it again after the time that Retry-After names, with fewer at once. Nothing of it was done.";
    SERVICE_UNAVAILABLE KeysUnavailable "keys_unavailable"
        "The keys cannot be read"
        "Mend keys.json in the data directory, which the server's log names; the server notices by itself.";
    SERVICE_UNAVAILABLE ReadOnly "read_only"
        "The store is open for reading only"
        "Remove the cause and restart the server.";
    SERVICE_UNAVAILABLE LogFailed "log_failed"
        "The log has failed"
        "Restart the server to recover. A write is safe to repeat under the same Idempotency-Key, or the same id and when.";
    SERVICE_UNAVAILABLE ShuttingDown "shutting_down"
        "The server is stopping"
        "Send it again when the server is back. A write is safe to repeat under the same Idempotency-Key, or the same id and \
         when.";
    SERVICE_UNAVAILABLE EmbeddingUnavailable "embedding_unavailable"
        "The text cannot be embedded now"
        "Send it again later, or with an embedding of your own; nothing was stored. GET /v1/status says how the embedder is.";
    SERVICE_UNAVAILABLE Timeout "timeout"
        "The request took too long"
        "Send it again. A write is safe to repeat under the same Idempotency-Key, or the same id and when.";
    GATEWAY_TIMEOUT LsnNotReached "lsn_not_reached"
        "The change to be seen has not come"
        "Ask again if a receipt of this server has named that LSN; if not, leave min_lsn out.";
    INSUFFICIENT_STORAGE CapacityReached "capacity_reached"
        "The store is full"
        "Forget memories, or start the server with a greater --capacity.";
    INSUFFICIENT_STORAGE MemoryLimitReached "memory_limit_reached"
        "The memories take as much memory as they may"
        "Forget memories, or start the server with a greater --memory-limit, on a machine that has it.";
    INSUFFICIENT_STORAGE DiskFull "disk_full"
        "The disk is full"
        "Free some space and send it again: the server goes on by itself.";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_code_is_an_error_with_a_name_of_its_own() {
        let names: BTreeSet<_> = Code::ALL.iter().map(|code| code.row().name).collect();
        assert_eq!(names.len(), Code::ALL.len());
        for Row { status, name, title, suggestion } in Code::ALL.iter().map(|code| code.row()) {
            assert!(status.is_client_error() || status.is_server_error(), "{name}");
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
            assert!(!title.ends_with('.') && suggestion.ends_with('.'), "{name}");
        }
    }
}
