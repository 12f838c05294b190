//! Edits end to end: answers in, bytes out, nothing but the bytes that were meant.

mod cases;
mod commands;
mod corpus;
mod damage;
mod folders;
mod history;
mod review;
mod score;
