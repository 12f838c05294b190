//! The network that weighs rows of facts, and the form it is stored in.
//!
//! The score of a thing is the sum of its rows' own weights plus a small hidden layer over the sum
//! of its rows' vectors: linear where facts speak alone, not linear where they meet.
//! Holds: what is read back is checked for size and finiteness; a damaged file is an error, never
//! a panic later.

use anyhow::{Context as _, ensure};

/// Width of the hidden layer.
pub const HIDDEN: usize = 16;

/// Weights of one network.
#[derive(Debug, Clone)]
pub struct Net {
    /// For each row: the hidden vector, and the row's own weight.
    pub rows: Vec<[f32; HIDDEN]>,
    pub own: Vec<f32>,
    pub bias: [f32; HIDDEN],
    pub out: [f32; HIDDEN],
}

/// Sum of some rows.
#[derive(Debug, Clone, Copy)]
pub struct Sum {
    pub hidden: [f32; HIDDEN],
    pub own: f32,
}

impl Net {
    /// Returns a network of `n_rows` rows that scores everything 0.
    pub fn zero(n_rows: usize) -> Self {
        Self {
            rows: vec![[0.0; HIDDEN]; n_rows],
            own: vec![0.0; n_rows],
            bias: [0.0; HIDDEN],
            out: [0.0; HIDDEN],
        }
    }

    pub fn start(&self) -> Sum {
        Sum {
            hidden: self.bias,
            own: 0.0,
        }
    }

    /// Adds rows to a sum.
    pub fn add(&self, sum: &mut Sum, rows: &[u16]) {
        for row in rows {
            let row = usize::from(*row);
            sum.own += self.own[row];
            for (total, weight) in sum.hidden.iter_mut().zip(&self.rows[row]) {
                *total += weight;
            }
        }
    }

    pub fn score(&self, sum: &Sum) -> f32 {
        sum.own
            + sum
                .hidden
                .iter()
                .zip(&self.out)
                .map(|(h, out)| h.max(0.0) * out)
                .sum::<f32>()
    }

    /// Writes the weights as bytes: counts, then per column a scale and one signed byte a row.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend((self.rows.len() as u32).to_le_bytes());
        bytes.extend((HIDDEN as u32).to_le_bytes());
        for value in self.bias.iter().chain(&self.out) {
            bytes.extend(value.to_le_bytes());
        }
        let mut column = |values: Vec<f32>| {
            let scale = values.iter().fold(1e-9_f32, |most, v| most.max(v.abs())) / 32767.0;
            bytes.extend(scale.to_le_bytes());
            bytes.extend(
                values
                    .iter()
                    .flat_map(|v| ((v / scale).round() as i16).to_le_bytes()),
            );
        };
        column(self.own.clone());
        for at in 0..HIDDEN {
            column(self.rows.iter().map(|row| row[at]).collect());
        }
        bytes
    }

    /// Reads what [`Net::encode`] wrote.
    ///
    /// # Errors
    /// When the bytes are not exactly a network of `n_rows` rows with finite weights.
    pub fn decode(bytes: &[u8], n_rows: usize) -> anyhow::Result<Self> {
        let mut reader = Reader(bytes);
        ensure!(
            reader.u32()? as usize == n_rows,
            "the weights are for another number of rows than {n_rows}"
        );
        ensure!(
            reader.u32()? as usize == HIDDEN,
            "the weights are for another width than {HIDDEN}"
        );
        let mut net = Self::zero(n_rows);
        for value in net.bias.iter_mut().chain(&mut net.out) {
            *value = reader.f32()?;
        }
        let scale = reader.f32()?;
        for own in &mut net.own {
            *own = reader.i16()? * scale;
        }
        for at in 0..HIDDEN {
            let scale = reader.f32()?;
            for row in &mut net.rows {
                row[at] = reader.i16()? * scale;
            }
        }
        ensure!(
            reader.0.is_empty(),
            "the weights have {} bytes too many",
            reader.0.len()
        );
        Ok(net)
    }
}

struct Reader<'b>(&'b [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> anyhow::Result<[u8; N]> {
        let (head, rest) = self
            .0
            .split_first_chunk()
            .context("the weights end early")?;
        self.0 = rest;
        Ok(*head)
    }

    fn u32(&mut self) -> anyhow::Result<u32> {
        Ok(u32::from_le_bytes(self.take()?))
    }

    fn f32(&mut self) -> anyhow::Result<f32> {
        let value = f32::from_le_bytes(self.take()?);
        ensure!(value.is_finite(), "a weight is not a number");
        Ok(value)
    }

    fn i16(&mut self) -> anyhow::Result<f32> {
        Ok(i16::from_le_bytes(self.take()?).into())
    }
}
