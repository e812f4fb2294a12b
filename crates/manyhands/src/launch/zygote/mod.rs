//! The zygote: a single-threaded fork server, connected to its one client by an unnamed socket pair.
//!
//! | message | from | over | bytes | descriptors |
//! |---|---|---|---|---|
//! | start | client | the socket | the request's number, the slot | the request's channel, job, life pipe, whatever the child is passed |
//! | end | client | the socket | the request's number | |
//! | reply | zygote | the channel | the child's pid, or which call was refused, and why | the child's pidfd, opened before anybody could reap it |
//! | status | zygote | the channel | how the child ended | |
//!
//! Each request brings the *channel* on which it is answered, a socket pair of its own. So a reply cannot be taken for
//! another request's, whatever became of those before, and a request that nobody will answer has a channel that ends.
//!
//! | what happens | what the client sees | what becomes of the child |
//! |---|---|---|
//! | the zygote cannot start it | a reply with the call and its errno | there is none |
//! | the zygote dies before the fork | its pidfd, or the channel's end | there is none: the slot is taken back |
//! | the zygote dies after the fork | the same | it has taken its slot and runs, as an orphan that the client watches; or the slot is taken back, and it ends when it wants it |
//! | the zygote stands still | nothing; it goes on waiting, and runs signal handlers | as it will be |
//! | the client gives up (a handler raises) | | the slot is taken back; a child that had it is ended, by the message "end" |
//! | the client dies | | the zygote is killed by its life pipe; the child by its own if it is to die with its parent |
//!
//! After its first request the zygote keeps one child in reserve: forked, and waiting for a request to become. The zygote
//! passes the next request on to it, over a socket pair of their own, and forks another one while that child works. When
//! no request comes for a while, it is sent away (`reserve.rs`). A
//! child in reserve is in no table; it ends when the zygote does, because its socket closes. One that was killed is
//! noticed when its request cannot be sent, or before: then the zygote forks as if there had been none. It holds the
//! request's channel until it has taken its slot: a channel that has ended is no child's any more that has yet to decide.
//!
//! When a child ends, the zygote reaps it and writes its status into the channel. A client that finds the channel closed
//! without a status knows that the zygote is gone, or that somebody else reaped the child. The zygote ends with its
//! client: the socket closes, and its own life pipe kills it even if it is stuck.

mod client;
mod message;
mod reserve;
mod server;

pub use client::{Asked, ZygoteClient};
pub use server::{Request, Zygote};
