//! What of a question may go to a model: what looks at requests before they are sent
//! (`model::outbound`) is asked piece by piece where it does not let the whole go, so that one
//! file that was found does not spoil the conversation.

use std::iter;

use super::grounding::{Grounding, Piece};
use crate::model::{Failure, TurnModel};

/// Leaves out what must stay here, with a notice for each piece.
///
/// # Errors
/// Why the question itself must stay here, as a sentence.
pub(super) async fn leave_out(
    model: &TurnModel,
    question: &str,
    grounding: &mut Grounding,
) -> Result<(), String> {
    let all = grounding.pieces.iter().map(text_of);
    let whole: Vec<String> = iter::once(question.to_owned()).chain(all).collect();
    if withheld(model, &whole.join("\n\n")).await.is_none() {
        return Ok(());
    }
    if let Some(why) = withheld(model, question).await {
        let place = model.place();
        return Err(format!("Your question is not sent to {place}: {why}."));
    }
    for piece in std::mem::take(&mut grounding.pieces) {
        match withheld(model, &text_of(&piece)).await {
            Some(why) => {
                let title = &piece.shown.title;
                grounding
                    .notices
                    .push(format!("{title} is not sent: {why}."));
            }
            None => grounding.pieces.push(piece),
        }
    }
    Ok(())
}

/// Why a text must stay here. What cannot be looked at is not sent either, as the request will say.
async fn withheld(model: &TurnModel, text: &str) -> Option<String> {
    match model.look(text).await.err()?.failure {
        Failure::Withheld(why) => Some(why),
        _ => None,
    }
}

fn text_of(piece: &Piece) -> String {
    format!("{}\n{}", piece.shown.title, piece.text)
}
