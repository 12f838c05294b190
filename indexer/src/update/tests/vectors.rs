//! Vectors from a service.

use super::*;

#[test]
fn vectors_from_outside_are_asked_for_once_and_used() {
    let workspace = Workspace::new(&[("a.rs", TEXTS[0]), ("b.rs", TEXTS[1])]);
    let index = workspace.settled();
    let meaning_of_b = |index: &Index, vector: Option<&[f32]>| {
        let hits = index.reader().candidates(&Query {
            vector,
            ..Query::new("beta")
        });
        let meaning = signal_names().iter().position(|&name| name == "meaning");
        let row = hits.into_iter().find(|(path, _)| path.as_str() == "b.rs");
        row.map(|(_, row)| row[meaning.unwrap()])
    };
    let before = meaning_of_b(&index, None);
    assert!(index.wanted_vectors(10).is_empty());
    let model = OutsideModel {
        name: "test".to_owned(),
        dimensions: 4,
    };
    index.use_outside_model(model.clone());
    seen(&index);
    let wanted = index.wanted_vectors(10);
    assert_eq!(wanted.len(), 2);
    let vector = |text: &str| {
        if text.contains("gamma") {
            vec![0.0, 1.0, 0.0, 0.0]
        } else {
            vec![1.0, 0.0, 0.0, 0.0]
        }
    };
    let wrong = (wanted[0].0, vec![1.0; 3]);
    let right = wanted.iter().map(|(id, text)| (*id, vector(text)));
    index.put_vectors(std::iter::once(wrong).chain(right).collect());
    seen(&index);
    assert!(index.wanted_vectors(10).is_empty());
    assert_eq!(index.status().n_vectors, 2);
    let (right, left) = ([0.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]);
    assert_eq!(meaning_of_b(&index, Some(&right)), Some(1.0));
    assert_eq!(meaning_of_b(&index, Some(&left)), Some(0.0));
    // A question without a vector is answered by the embedded model as ever.
    assert_eq!(meaning_of_b(&index, None), before);

    // What was given is on disk; the same text in another file is not asked for again.
    drop(index);
    workspace.write("c.rs", format!("{}\n", TEXTS[1]));
    let index = workspace.settled();
    index.use_outside_model(model);
    seen(&index);
    assert!(index.wanted_vectors(10).is_empty());
    seen(&index);
    assert_eq!(index.status().n_vectors, 3);

    // Another model has seen nothing.
    index.use_outside_model(OutsideModel {
        name: "other".to_owned(),
        dimensions: 4,
    });
    seen(&index);
    assert!(!index.wanted_vectors(10).is_empty());
}

#[test]
fn vectors_are_asked_for_what_is_saved() {
    let workspace = Workspace::new(&[("a.rs", TEXTS[0])]);
    let index = workspace.settled();
    index.use_outside_model(OutsideModel {
        name: "test".to_owned(),
        dimensions: 4,
    });
    seen(&index);
    let typed = format!("// one\n\n// three\n{}", TEXTS[0]);
    index.buffer_changed(&workspace.path("a.rs"), typed.into());
    seen(&index);
    let wanted = index.wanted_vectors(10);
    assert!(wanted.is_empty(), "{wanted:?}");
}

#[test]
fn vectors_that_cover_little_do_not_answer_yet() {
    let workspace = Workspace::new(&[("a.rs", TEXTS[0]), ("b.rs", TEXTS[1])]);
    let index = workspace.settled();
    index.use_outside_model(OutsideModel {
        name: "test".to_owned(),
        dimensions: 4,
    });
    seen(&index);
    let wanted = index.wanted_vectors(1);
    index.put_vectors(vec![(wanted[0].0, vec![0.0, 1.0, 0.0, 0.0])]);
    seen(&index);
    assert!(index.reader().base.outside().is_none());
}
