//! Texts to vectors: `POST …/embeddings`, as OpenAI and everything compatible with it answers.
//!
//! Holds: an answer has one vector for each text, all of one length, or it is an error; it is
//! bounded in bytes and time. Dropping the future ends the request at the server.
//! Not here: what is embedded and when (`index::vectors`), where vectors are kept (`indexer`).

use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use serde::Deserialize;
use serde_json::json;
use tokio::time::timeout;

use super::caller::read_some;
use super::endpoint::Endpoint;
use super::exchange::Target;
use super::failure::{Failure, ModelError};
use super::network::Network;
use super::stats::{Counters, Stats, average};
use crate::error::UserError;

/// Longest answer: 64 texts of 4,096 numbers of twenty digits.
const LONGEST_ANSWER: usize = 8 << 20;
/// Longer vectors are taken for a mistake.
const MOST_DIMENSIONS: usize = 8192;

/// An endpoint that turns texts into vectors. Cheap to clone.
#[derive(Clone)]
pub struct Embedder(Arc<Inner>);

struct Inner {
    target: Target,
    counters: Counters,
}

impl std::fmt::Debug for Embedder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedder")
            .field("place", &self.place())
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Answer {
    data: Vec<Item>,
    usage: Option<Used>,
}

#[derive(Deserialize)]
struct Item {
    index: Option<usize>,
    embedding: Vec<f32>,
}

#[derive(Deserialize)]
struct Used {
    prompt_tokens: Option<u64>,
}

impl Embedder {
    pub(super) fn new(network: &Network, endpoint: Endpoint) -> Result<Self, UserError> {
        Ok(Self(Arc::new(Inner {
            target: Target::new(network, endpoint, &[])?,
            counters: Counters::default(),
        })))
    }

    /// Where it is, as shown to people.
    pub fn place(&self) -> &str {
        &self.0.target.caller.place
    }

    pub fn endpoint(&self) -> &Endpoint {
        &self.0.target.endpoint
    }

    pub fn stats(&self) -> Stats {
        self.0.counters.snapshot()
    }

    /// Returns a vector for each of `texts`, in their order; all have the same length.
    ///
    /// # Errors
    /// As a completion, and `Garbage` when the vectors are not what was asked for.
    pub async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, ModelError> {
        let Inner { target, counters } = &*self.0;
        counters.update(|stats| stats.requests += 1);
        let times = &target.endpoint.timeouts;
        let started = tokio::time::Instant::now();
        let asked = match timeout(times.total, self.ask(texts)).await {
            Ok(asked) => asked,
            Err(_) => Err(target.error(Failure::Silent(times.total))),
        };
        counters.update(|stats| match &asked {
            Ok((_, tokens)) => {
                stats.answered += 1;
                stats.tokens_in += tokens;
                average(&mut stats.total_ms, started.elapsed());
            }
            Err(_) => stats.failed += 1,
        });
        asked.map(|(vectors, _)| vectors)
    }

    async fn ask(&self, texts: &[String]) -> Result<(Vec<Vec<f32>>, u64), ModelError> {
        let target = &self.0.target;
        let path = format!("{}/embeddings{}", target.address.base, target.address.query);
        let body = json!({
            "model": target.endpoint.model,
            "input": texts,
            "encoding_format": "float",
        });
        let mut answer = target
            .caller
            .send(Method::POST, path, Bytes::from(body.to_string()))
            .await?;
        let bytes = read_some(&mut answer.body, LONGEST_ANSWER)
            .await
            .map_err(|failure| target.error(failure))?;
        if bytes.len() == LONGEST_ANSWER {
            return Err(target.error(Failure::Endless));
        }
        vectors(&bytes, texts.len()).map_err(|what| target.error(Failure::Garbage(what.to_owned())))
    }
}

/// Reads an answer to `n` texts; returns their vectors and the tokens it cost, if told.
fn vectors(body: &[u8], n: usize) -> Result<(Vec<Vec<f32>>, u64), &'static str> {
    let answer: Answer = serde_json::from_slice(body).map_err(|_| "it is not a list of vectors")?;
    if answer.data.len() != n {
        return Err("it has another number of vectors than texts were sent");
    }
    let mut vectors = vec![Vec::new(); n];
    for (at, item) in answer.data.into_iter().enumerate() {
        // The order is by index, which some servers leave out and none has to keep.
        let place = vectors.get_mut(item.index.unwrap_or(at));
        match place.filter(|place| place.is_empty()) {
            Some(place) => *place = item.embedding,
            None => return Err("its vectors are numbered wrongly"),
        }
    }
    let dimensions = vectors.first().map_or(0, Vec::len);
    if dimensions == 0 && n > 0 || dimensions > MOST_DIMENSIONS {
        return Err("its vectors have no usable length");
    }
    if vectors.iter().any(|vector| vector.len() != dimensions) {
        return Err("its vectors are of several lengths");
    }
    if vectors.iter().flatten().any(|number| !number.is_finite()) {
        return Err("its vectors have numbers that are none");
    }
    let tokens = answer.usage.and_then(|usage| usage.prompt_tokens);
    Ok((vectors, tokens.unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str, n: usize) -> Result<Vec<Vec<f32>>, &'static str> {
        vectors(body.as_bytes(), n).map(|(vectors, _)| vectors)
    }

    #[test]
    fn vectors_are_put_in_the_order_of_their_index() {
        let body = r#"{"data":[{"index":1,"embedding":[3,4]},{"index":0,"embedding":[1,2]}],
            "usage":{"prompt_tokens":9,"total_tokens":9}}"#;
        let expected = vec![vec![1.0, 2.0], vec![3.0, 4.0]];
        assert_eq!(vectors(body.as_bytes(), 2), Ok((expected, 9)));
        let bare = r#"{"data":[{"embedding":[1]},{"embedding":[2]}]}"#;
        assert_eq!(read(bare, 2), Ok(vec![vec![1.0], vec![2.0]]));
    }

    #[test]
    fn answers_that_are_not_what_was_asked_for_are_refused() {
        for (body, n) in [
            ("", 1),
            ("{}", 1),
            (r#"{"data":[]}"#, 1),
            (r#"{"data":[{"embedding":[]}]}"#, 1),
            (r#"{"data":[{"index":7,"embedding":[1]}]}"#, 1),
            (
                r#"{"data":[{"index":0,"embedding":[1]},{"index":0,"embedding":[1]}]}"#,
                2,
            ),
            (r#"{"data":[{"embedding":[1,2]},{"embedding":[1]}]}"#, 2),
            (r#"{"data":[{"embedding":[1e99]}]}"#, 1),
            (r#"{"data":[{"embedding":"AACAPw=="}]}"#, 1),
        ] {
            assert!(read(body, n).is_err(), "{body}");
        }
    }
}
