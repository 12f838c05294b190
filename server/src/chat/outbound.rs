//! What of a question may go to a model: what looks at requests before they are sent
//! (`model::outbound`) is asked piece by piece where it does not let the whole go, so that one
//! file that was found does not spoil the conversation.

use std::iter;

use super::conversation::Conversation;
use super::grounding::{Grounding, Piece};
use crate::model::{Failure, TurnModel};

/// Leaves out what must stay here, with a notice for each piece and each message of before: what was
/// not found out then may be now.
///
/// # Errors
/// Why nothing can be sent, as a sentence: the question itself must stay here, or it could not be
/// looked at.
pub(super) async fn leave_out(
    model: &TurnModel,
    question: &str,
    grounding: &mut Grounding,
    conversation: &mut Conversation,
) -> Result<(), String> {
    if !model.is_looked_at() {
        return Ok(());
    }
    let all = grounding.pieces.iter().map(text_of);
    let before = conversation.texts();
    let whole: Vec<String> = iter::once(question.to_owned())
        .chain(all)
        .chain(before.iter().cloned())
        .collect();
    if withheld(model, &whole.join("\n\n")).await?.is_none() {
        return Ok(());
    }
    if let Some(why) = withheld(model, question).await? {
        let place = model.place();
        return Err(format!("Your question is not sent to {place}: {why}."));
    }
    let is_before_clean = withheld(model, &before.join("\n\n")).await?.is_none();
    for (nth, text) in before.iter().enumerate().filter(|_| !is_before_clean) {
        if let Some(why) = withheld(model, text).await? {
            conversation.leave_out(nth);
            let notice = format!("An earlier message of this chat is not sent: {why}.");
            grounding.notices.push(notice);
        }
    }
    for piece in std::mem::take(&mut grounding.pieces) {
        match withheld(model, &text_of(&piece)).await? {
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

/// Why a text must stay here.
///
/// # Errors
/// Why it could not be looked at, as a sentence: then it is not sent either.
async fn withheld(model: &TurnModel, text: &str) -> Result<Option<String>, String> {
    match model.look(text).await {
        Ok(()) => Ok(None),
        Err(error) => match error.failure {
            Failure::Withheld(why) => Ok(Some(why)),
            _ => Err(error.user_error().to_string()),
        },
    }
}

fn text_of(piece: &Piece) -> String {
    format!("{}\n{}", piece.shown.title, piece.text)
}
