"""Fits the word vectors of the embedded vectorizer (indexer/src/vector/words.bin).

A chunk's documentation and its code must lie nearer to each other than to those of other chunks
(InfoNCE in both directions, cosine, temperature 0.05). A word that stands on both sides is dropped
from one of them half of the time, so that words are learned that are not equal but go together.

    cargo run --release -p indexer --example doc_pairs -- SOURCES… > pairs.jsonl
    python fit_vectors.py pairs.jsonl words.bin        # needs numpy and scipy; some minutes

SOURCES are unpacked packages under permissive licences; the repositories that search is judged on
are not among them.
"""

import collections
import json
import math
import random
import struct
import sys

import numpy as np
import scipy.sparse as sparse

N_WORDS = 20_000
DIMENSIONS = 128
BATCH = 1024
EPOCHS = 12
TEMPERATURE = 0.05
RATE = 0.003
HELD_OUT = 2_000


def name_hash(term):
    """FNV-1a folded to 32 bits, as `path::name_hash`."""
    value = 0xCBF29CE484222325
    for byte in term.encode():
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return (value ^ (value >> 32)) & 0xFFFFFFFF


def read_pairs(path):
    seen, pairs = set(), []
    for line in open(path):
        documentation, code = json.loads(line)
        # Licence headers and copies of packages repeat; the first 200 characters tell.
        key = documentation[:200]
        if key in seen or "copyright" in documentation[:300] or "licens" in documentation[:300]:
            continue
        seen.add(key)
        pairs.append((documentation.split()[:80], code.split()[:150]))
    random.Random(1).shuffle(pairs)
    return pairs


def vocabulary(pairs):
    counts = collections.Counter()
    for documentation, code in pairs:
        counts.update(set(documentation) | set(code))
    words = [word for word, n in counts.most_common(N_WORDS) if n >= 5]
    idf = np.array([math.log(len(pairs) / counts[word]) for word in words], np.float32)
    return {word: at for at, word in enumerate(words)}, idf


def bags(sides, at, drop):
    rows, columns, values = [], [], []
    for row, (side, other) in enumerate(sides):
        counts = collections.Counter(at[word] for word in side if word in at)
        shared = {at[word] for word in other if word in at} if drop else ()
        for column, count in counts.items():
            if column in shared and random.random() < drop:
                continue
            rows.append(row)
            columns.append(column)
            values.append(1.0 + math.log(count))
    shape = (len(sides), len(at))
    return sparse.csr_matrix((np.array(values, np.float32), (rows, columns)), shape=shape)


def normalised(matrix):
    length = np.sqrt((matrix * matrix).sum(1, keepdims=True)) + 1e-6
    return matrix / length, length


def softmax(scores):
    scores = np.exp(scores - scores.max(1, keepdims=True))
    return scores / scores.sum(1, keepdims=True)


def step(vectors, documentation, code):
    """Returns the loss and the gradient."""
    d, d_length = normalised(documentation @ vectors)
    c, c_length = normalised(code @ vectors)
    scores = d @ c.T / TEMPERATURE
    n = len(scores)
    forward, backward = softmax(scores), softmax(scores.T)
    loss = -np.log(forward[np.arange(n), np.arange(n)] + 1e-9).mean()
    g = (forward + backward.T - 2 * np.eye(n, dtype=np.float32)) / (2 * n * TEMPERATURE)
    gd, gc = g @ c, g.T @ d
    gd = (gd - d * (gd * d).sum(1, keepdims=True)) / d_length
    gc = (gc - c * (gc * c).sum(1, keepdims=True)) / c_length
    return loss, documentation.T @ gd + code.T @ gc


def found_first(vectors, pairs, at):
    documentation = bags([(d, c) for d, c in pairs], at, 0.0)
    code = bags([(c, d) for d, c in pairs], at, 0.0)
    d, c = normalised(documentation @ vectors)[0], normalised(code @ vectors)[0]
    return ((d @ c.T).argmax(1) == np.arange(len(pairs))).mean()


def main(source, target):
    random.seed(1)
    pairs = read_pairs(source)
    held_out, pairs = pairs[:HELD_OUT], pairs[HELD_OUT:]
    at, idf = vocabulary(pairs)
    print(f"{len(pairs)} pairs, {len(at)} words", flush=True)
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((len(at), DIMENSIONS)).astype(np.float32) * idf[:, None] * 0.1
    first, second = np.zeros_like(vectors), np.zeros_like(vectors)
    steps = 0
    for epoch in range(EPOCHS):
        random.shuffle(pairs)
        losses = []
        for start in range(0, len(pairs) - BATCH, BATCH):
            batch = pairs[start : start + BATCH]
            documentation = bags([(d, c) for d, c in batch], at, 0.5)
            code = bags([(c, d) for d, c in batch], at, 0.0)
            loss, gradient = step(vectors, documentation, code)
            steps += 1
            first = 0.9 * first + 0.1 * gradient
            second = 0.99 * second + 0.01 * gradient * gradient
            corrected = first / (1 - 0.9**steps), second / (1 - 0.99**steps)
            rate = RATE * (1 - epoch / EPOCHS) + 1e-5
            vectors -= rate * 10 * corrected[0] / (np.sqrt(corrected[1]) + 1e-8) * 0.1
            losses.append(loss)
        print(epoch, round(float(np.mean(losses)), 3), found_first(vectors, held_out, at), flush=True)
    rows = sorted((name_hash(word), row) for word, row in at.items())
    scale = np.abs(vectors).max(1) / 127 + 1e-9
    quantised = np.round(vectors / scale[:, None]).astype(np.int8)
    with open(target, "wb") as out:
        out.write(struct.pack("<I", len(rows)))
        out.write(b"".join(struct.pack("<I", word) for word, _ in rows))
        out.write(b"".join(struct.pack("<f", scale[row]) for _, row in rows))
        out.write(b"".join(quantised[row].tobytes() for _, row in rows))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
