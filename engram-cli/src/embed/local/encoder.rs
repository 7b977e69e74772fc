//! The forward pass of BERT (Devlin et al., 2019): embeddings, then layers of attention and two dense layers, each with a
//! residual connection and a normalisation after it.

use std::{fs, ops::Range, path::Path};

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, ArrayViewMut2, Axis, linalg::general_mat_mul, s};

use super::{
    Unusable,
    files::{ModelConfig, of_file},
    weights::Weights,
};

/// The encoder's numbers, and its shape.
pub(super) struct Encoder {
    words: Array2<f32>,
    /// The embedding of each position, and that of the one kind of text that there is.
    positions: Array2<f32>,
    norm: Norm,
    layers: Vec<Layer>,
    heads: usize,
}

struct Layer {
    query: Dense,
    key: Dense,
    value: Dense,
    attended: Dense,
    attended_norm: Norm,
    wide: Dense,
    narrow: Dense,
    norm: Norm,
}

/// `x · weight + bias`: the weight has a row for each number that comes in, a column for each that goes out.
struct Dense {
    weight: Array2<f32>,
    bias: Array1<f32>,
}

struct Norm {
    weight: Array1<f32>,
    bias: Array1<f32>,
    epsilon: f32,
}

impl Encoder {
    /// Reads the weights, and gives their checksum, too.
    pub(super) fn read(directory: &Path, config: &ModelConfig) -> Result<(Self, u32), Unusable> {
        let file = directory.join("model.safetensors");
        let bytes = fs::read(&file).map_err(|error| of_file(&file, &error))?;
        let weights = Weights::read(&bytes)?;
        let size = config.hidden_size;
        let words = weights.matrix("embeddings.word_embeddings.weight", size)?;
        let kinds = weights.matrix("embeddings.token_type_embeddings.weight", size)?;
        let positions = weights.matrix("embeddings.position_embeddings.weight", size)?;
        if kinds.nrows() == 0 || positions.nrows() < config.max_position_embeddings {
            return Err(Unusable(format!(
                "expected embeddings of {} positions, got {}",
                config.max_position_embeddings,
                positions.nrows()
            )));
        }
        let encoder = Self {
            words,
            positions: positions + kinds.row(0),
            norm: Norm::read(&weights, "embeddings.LayerNorm", config)?,
            layers: (0..config.num_hidden_layers)
                .map(|number| Layer::read(&weights, &format!("encoder.layer.{number}"), config))
                .collect::<Result<_, _>>()?,
            heads: config.num_attention_heads,
        };
        Ok((encoder, crc32c::crc32c(&bytes)))
    }

    pub(super) fn dimension(&self) -> usize {
        self.words.ncols()
    }

    /// How many tokens it knows.
    pub(super) fn vocabulary(&self) -> usize {
        self.words.nrows()
    }

    /// A vector for each token of each text, after all layers, text by text. A text has at most as many tokens as there are
    /// positions, and all are known. Texts that are encoded together give what each gives alone, in less time.
    pub(super) fn states(&self, texts: &[Vec<u32>]) -> Vec<Array2<f32>> {
        let mut states = Array2::zeros((texts.iter().map(Vec::len).sum(), self.dimension()));
        let tokens = texts.iter().flat_map(|text| text.iter().enumerate());
        for (mut state, (position, &token)) in states.rows_mut().into_iter().zip(tokens) {
            state += &self.words.row(token as usize);
            state += &self.positions.row(position);
        }
        let mut end = 0;
        let rows: Vec<Range<usize>> = texts
            .iter()
            .map(|text| {
                end += text.len();
                end - text.len()..end
            })
            .collect();
        self.norm.apply(&mut states);
        for layer in &self.layers {
            states = layer.apply(&states, &rows, self.heads);
        }
        rows.into_iter().map(|rows| states.slice(s![rows, ..]).to_owned()).collect()
    }
}

impl Layer {
    fn read(weights: &Weights<'_>, name: &str, config: &ModelConfig) -> Result<Self, Unusable> {
        let size = config.hidden_size;
        let dense = |part: &str, columns| Dense::read(weights, &format!("{name}.{part}"), columns);
        let norm = |part: &str| Norm::read(weights, &format!("{name}.{part}"), config);
        let wide = dense("intermediate.dense", size)?;
        let layer = Self {
            query: dense("attention.self.query", size)?,
            key: dense("attention.self.key", size)?,
            value: dense("attention.self.value", size)?,
            attended: dense("attention.output.dense", size)?,
            attended_norm: norm("attention.output.LayerNorm")?,
            narrow: dense("output.dense", wide.rows())?,
            wide,
            norm: norm("output.LayerNorm")?,
        };
        let square = [&layer.query, &layer.key, &layer.value, &layer.attended, &layer.narrow];
        if square.iter().any(|dense| dense.rows() != size) {
            return Err(Unusable(format!(
                "expected the layers of {name} to give {size} numbers, got others"
            )));
        }
        Ok(layer)
    }

    /// `texts` are the rows of each text: a token attends to those of its own.
    fn apply(&self, states: &Array2<f32>, texts: &[Range<usize>], heads: usize) -> Array2<f32> {
        let (query, key, value) =
            (self.query.apply(states), self.key.apply(states), self.value.apply(states));
        let mut attended = Array2::zeros(states.dim());
        for rows in texts {
            let rows = s![rows.clone(), ..];
            let own = [query.slice(rows), key.slice(rows), value.slice(rows)];
            attend(own, heads, attended.slice_mut(rows));
        }
        let mut attended = self.attended.apply(&attended);
        attended += states;
        self.attended_norm.apply(&mut attended);
        let mut wide = self.wide.apply(&attended);
        wide.mapv_inplace(gelu);
        let mut next = self.narrow.apply(&wide);
        next += &attended;
        self.norm.apply(&mut next);
        next
    }
}

/// Each token's mean of the values of all, by how well its query fits their keys: head by head.
fn attend([query, key, value]: [ArrayView2<'_, f32>; 3], heads: usize, mut attended: ArrayViewMut2<'_, f32>) {
    let (tokens, size) = query.dim();
    let head_size = size / heads;
    let scale = 1.0 / (head_size as f32).sqrt();
    let mut fits = Array2::zeros((tokens, tokens));
    for head in 0..heads {
        let columns = s![.., head * head_size..(head + 1) * head_size];
        general_mat_mul(scale, &query.slice(columns), &key.slice(columns).t(), 0.0, &mut fits);
        for mut row in fits.rows_mut() {
            let greatest = row.fold(f32::NEG_INFINITY, |greatest, &fit| greatest.max(fit));
            row.mapv_inplace(|fit| (fit - greatest).exp());
            let sum = row.sum();
            row /= sum;
        }
        general_mat_mul(1.0, &fits, &value.slice(columns), 0.0, &mut attended.slice_mut(columns));
    }
}

impl Dense {
    fn read(weights: &Weights<'_>, name: &str, columns: usize) -> Result<Self, Unusable> {
        let weight = weights.matrix(&format!("{name}.weight"), columns)?;
        let bias = weights.vector(&format!("{name}.bias"), weight.nrows())?;
        // As the product wants it: a row for each number that comes in.
        Ok(Self { weight: weight.t().as_standard_layout().into_owned(), bias })
    }

    fn rows(&self) -> usize {
        self.weight.ncols()
    }

    fn apply(&self, states: &Array2<f32>) -> Array2<f32> {
        states.dot(&self.weight) + &self.bias
    }
}

impl Norm {
    fn read(weights: &Weights<'_>, name: &str, config: &ModelConfig) -> Result<Self, Unusable> {
        let (size, epsilon) = (config.hidden_size, config.layer_norm_eps);
        let vector = |part: &str| weights.vector(&format!("{name}.{part}"), size);
        Ok(Self { weight: vector("weight")?, bias: vector("bias")?, epsilon })
    }

    fn apply(&self, states: &mut Array2<f32>) {
        for mut state in states.axis_iter_mut(Axis(0)) {
            let mean = mean(&state.view());
            state -= mean;
            let variance = mean_of_squares(&state.view());
            state *= 1.0 / (variance + self.epsilon).sqrt();
            state *= &self.weight;
            state += &self.bias;
        }
    }
}

fn mean(state: &ArrayView1<'_, f32>) -> f32 {
    state.sum() / state.len() as f32
}

fn mean_of_squares(state: &ArrayView1<'_, f32>) -> f32 {
    state.dot(state) / state.len() as f32
}

/// `x` times the share of the normal distribution below `x`.
fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// The error function, to 1.5e-7: Abramowitz and Stegun, 7.1.26.
fn erf(x: f32) -> f32 {
    const TERMS: [f32; 5] = [1.061_405_4, -1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6];
    let t = 1.0 / (1.0 + 0.327_591_1 * x.abs());
    let sum = TERMS.iter().fold(0.0, |sum, term| (sum + term) * t);
    (1.0 - sum * (-x * x).exp()).copysign(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_function_is_near_its_table() {
        // Abramowitz and Stegun, table 7.1.
        for (x, expected) in [
            (0.0, 0.0),
            (0.1, 0.112_462_9),
            (0.5, 0.520_499_9),
            (1.0, 0.842_700_8),
            (2.0, 0.995_322_3),
            (4.0, 1.0),
        ] {
            assert!((erf(x) - expected).abs() < 5e-7, "{x}: {}", erf(x));
            assert!((erf(-x) + expected).abs() < 5e-7);
        }
        assert!((gelu(1.0) - 0.841_344_7).abs() < 1e-6 && gelu(-10.0).abs() < 1e-6);
    }
}
