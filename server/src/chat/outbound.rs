//! What of a question may go to a model: what looks at requests before they are sent
//! (`model::outbound`) is asked piece by piece where it does not let the whole go, so that one
//! file that was found does not spoil the conversation.

use std::iter;

use super::grounding::{Grounding, Piece};
use crate::model::{Held, TurnModel};

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
    let Err(Held::Withheld(_)) = model.look(&whole.join("\n\n")).await else {
        return Ok(());
    };
    if let Err(Held::Withheld(why)) = model.look(question).await {
        return Err(format!(
            "Your question is not sent to {}: {why}.",
            model.place()
        ));
    }
    for piece in std::mem::take(&mut grounding.pieces) {
        match model.look(&text_of(&piece)).await {
            Err(Held::Withheld(why)) => grounding
                .notices
                .push(format!("{} is not sent: {why}.", piece.shown.title)),
            // What cannot be looked at is not sent, as the request itself will say.
            Ok(()) | Err(Held::Unchecked(_)) => grounding.pieces.push(piece),
        }
    }
    Ok(())
}

fn text_of(piece: &Piece) -> String {
    format!("{}\n{}", piece.shown.title, piece.text)
}
