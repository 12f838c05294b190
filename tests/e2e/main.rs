//! Tests of the whole: the real engine on files, answers and histories, and the real program.

mod edits;
