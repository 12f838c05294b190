use super::*;

fn id(n: usize) -> ChunkId {
    ChunkId {
        unit: UnitKey(n as u64),
        chunk: 0,
        text: n as u64 + 1,
    }
}

/// A vector whose bits are drawn by a fixed sequence.
fn vector(seed: u64, dimensions: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..dimensions)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1_u64 << 24) as f32 - 0.5
        })
        .collect()
}

fn model() -> OutsideModel {
    OutsideModel {
        name: "test".into(),
        dimensions: 96,
    }
}

fn filled(dir: &Path, n: usize) -> VectorLog {
    let mut log = VectorLog::open(dir, Source::Outside(&model())).unwrap();
    let rows: Vec<_> = (0..n)
        .map(|at| Row::new(id(at), &vector(at as u64 + 1, 96)))
        .collect();
    log.append(&rows).unwrap();
    log
}

fn slots(unit: UnitKey) -> Option<Slot> {
    Some(unit.0 as Slot)
}

#[test]
fn a_row_is_nearest_to_itself_unless_masked() {
    let dir = tempfile::tempdir().unwrap();
    let base = filled(dir.path(), 3_000).base(slots).unwrap();
    let question = vector(43, 96);
    let near = base.nearest(&question, &FxHashSet::default(), 3);
    assert_eq!((near[0].slot, near.len()), (42, 3));
    assert!(near[0].cosine > 0.99 && near[1].cosine < 0.6);
    let masked: FxHashSet<Slot> = [42].into_iter().collect();
    assert_ne!(base.nearest(&question, &masked, 1)[0].slot, 42);
    assert!(
        base.nearest(&vector(1, 64), &FxHashSet::default(), 1)
            .is_empty()
    );
}

#[test]
fn the_graph_and_the_scan_of_newer_rows_agree_with_the_full_scan() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = filled(dir.path(), 2_000);
    let flat = log.base(slots).unwrap();
    log.ann_bytes = 0;
    assert!(log.base(slots).unwrap().graph.is_some());
    let newer: Vec<_> = (2_000..2_100)
        .map(|at| Row::new(id(at), &vector(at as u64 + 1, 96)))
        .collect();
    log.append(&newer).unwrap();
    let linked = log.base(slots).unwrap();
    assert_eq!(linked.graph.as_ref().unwrap().len(), 2_000);
    let nobody = FxHashSet::default();
    for seed in [5, 700, 1_999] {
        let question = vector(seed, 96);
        assert_eq!(
            linked.nearest(&question, &nobody, 1),
            flat.nearest(&question, &nobody, 1)
        );
    }
    assert_eq!(
        linked.nearest(&vector(2_050, 96), &nobody, 1)[0].slot,
        2_049
    );
}

#[test]
fn damage_loses_rows_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    drop(filled(dir.path(), 50));
    let path = dir.path().join(Source::Outside(&model()).file_name());
    let mut bytes = fs::read(&path).unwrap();
    let at = 20 * row_bytes(96) + 30;
    bytes[at] ^= 1;
    fs::write(&path, bytes).unwrap();
    let mut log = VectorLog::open(dir.path(), Source::Outside(&model())).unwrap();
    assert_eq!(log.base(slots).unwrap().len(), 20);
    assert!(!log.contains(UnitKey(20)));
}

#[test]
fn compaction_keeps_the_wanted_rows() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = filled(dir.path(), 50);
    log.compact(|unit| unit.0 % 2 == 0).unwrap();
    let base = log.base(slots).unwrap();
    assert_eq!(base.len(), 25);
    assert_eq!(
        base.nearest(&vector(11, 96), &FxHashSet::default(), 1)[0].slot,
        10
    );
}

#[test]
fn a_chunk_of_the_same_text_gets_the_same_row() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = filled(dir.path(), 10);
    let moved = ChunkId {
        unit: UnitKey(77),
        chunk: 3,
        text: 5,
    };
    assert!(log.append_same(moved).unwrap());
    assert!(log.has_chunk(UnitKey(77), 3) && !log.has_chunk(UnitKey(77), 4));
    assert!(!log.append_same(ChunkId { text: 99, ..moved }).unwrap());
    let base = log.base(slots).unwrap();
    let near = base.nearest(&vector(5, 96), &FxHashSet::default(), 2);
    assert_eq!((near[0].slot, near[1].slot, near[1].chunk), (4, 77, 3));
    drop(log);
    let log = VectorLog::open(dir.path(), Source::Outside(&model())).unwrap();
    assert!(log.has_chunk(UnitKey(77), 3));
}

#[test]
fn words_that_document_each_other_are_near() {
    let question = |text: &str| embed::question(&crate::text::analyse::prose_terms(text));
    let cosine = |a: &[f32], b: &[f32]| {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
    };
    let delete = question("delete a file");
    assert!(
        cosine(&delete, &question("remove path")) > cosine(&delete, &question("matrix multiply"))
    );
    assert!(question("zzqx").iter().all(|&x| x == 0.0));
}
