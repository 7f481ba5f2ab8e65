//! Push against stand-ins of the providers: local servers that speak their documented protocols, good answers and bad.
//! What we sign is verified with the public key, and what we encrypt is decrypted by the npm package `http_ece`.

mod apns;
mod fcm;
mod kit;
mod queue;
mod ssrf;
mod webhook;
mod webpush;
