//! The limits of what is stored and asked for. What is over one is refused whole, with the limit in the error.

use std::time::Duration;

/// Bytes of an id, of which there is at least one. Control characters are refused.
pub const ID_BYTES_MAX: usize = 256;

/// Bytes of a memory's content, of which there is at least one.
pub const CONTENT_BYTES_MAX: usize = 256 << 10;

/// Keys of a memory's metadata.
pub const METADATA_KEYS_MAX: usize = 64;

/// Bytes of a metadata key, of which there is at least one.
pub const METADATA_KEY_BYTES_MAX: usize = 128;

/// Bytes of all keys and values of a memory's metadata together.
pub const METADATA_BYTES_MAX: usize = 64 << 10;

/// Bytes of the words of a query.
pub const QUERY_BYTES_MAX: usize = 16 << 10;

/// How deep the conditions of a filter may lie in each other.
pub const CONDITION_DEPTH_MAX: usize = 16;

/// Conditions and listed values of a filter together.
pub const CONDITION_PARTS_MAX: usize = 1_024;

/// Results of one recall.
pub const RECALL_LIMIT_MAX: usize = 1_000;

/// Memories on one page of a listing.
pub const LIST_LIMIT_MAX: usize = 1_000;

/// Characters of a space's name, of which there is at least one: small letters, digits, `-`, `_` and `.`, a letter or a
/// digit first.
pub const SPACE_NAME_MAX: usize = 64;

/// Spaces of one store.
pub const SPACES_MAX: usize = 10_000;

/// Bytes of a request's key, of which there is at least one.
pub const REQUEST_KEY_BYTES_MAX: usize = 256;

/// Requests with a key that a space remembers; the oldest go first.
pub const REQUESTS_MAX: usize = 100_000;

/// How long a space remembers a request with a key, by the times at which requests come.
pub const REQUEST_AGE_MAX: Duration = Duration::from_hours(24);

/// The latest changes that can be followed.
pub const CHANGES_KEPT: usize = 65_536;
