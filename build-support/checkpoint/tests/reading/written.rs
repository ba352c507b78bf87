//! A writer of GGUF files that writes whatever it is told.

/// A file in the making; `Default` is a good one with two tensors.
#[derive(Debug, Clone)]
pub struct Gguf {
    pub magic: [u8; 4],
    pub version: u32,
    /// Written instead of the real numbers.
    pub counts: Option<(u64, u64)>,
    /// Key, type and bytes of the value.
    pub metadata: Vec<(Vec<u8>, u32, Vec<u8>)>,
    pub tensors: Vec<Tensor>,
    pub alignment: usize,
    pub data: usize,
}

#[derive(Debug, Clone)]
pub struct Tensor {
    pub name: Vec<u8>,
    /// Innermost first, as the format has it.
    pub sizes: Vec<u64>,
    pub kind: u32,
    pub offset: u64,
}

impl Tensor {
    pub fn new(name: &str, sizes: &[u64], kind: u32, offset: u64) -> Self {
        Self {
            name: name.into(),
            sizes: sizes.to_vec(),
            kind,
            offset,
        }
    }
}

impl Default for Gguf {
    fn default() -> Self {
        Self {
            magic: *b"GGUF",
            version: 3,
            counts: None,
            metadata: vec![
                (b"general.architecture".to_vec(), 8, text("test")),
                (b"sizes".to_vec(), 9, array(4, 2, &[1, 0, 0, 0, 2, 0, 0, 0])),
                (b"tokens".to_vec(), 9, array(8, 1, &text("a"))),
            ],
            // F32 [2, 3] and Q8_0 [2, 64].
            tensors: vec![
                Tensor::new("a", &[3, 2], 0, 0),
                Tensor::new("b", &[64, 2], 8, 32),
            ],
            alignment: 32,
            data: 32 + 136,
        }
    }
}

impl Gguf {
    /// The bytes before the data.
    pub fn header(&self) -> Vec<u8> {
        let mut bytes = self.magic.to_vec();
        bytes.extend(self.version.to_le_bytes());
        let real = (self.tensors.len() as u64, self.metadata.len() as u64);
        let (tensors, metadata) = self.counts.unwrap_or(real);
        bytes.extend(tensors.to_le_bytes());
        bytes.extend(metadata.to_le_bytes());
        for (key, kind, value) in &self.metadata {
            bytes.extend((key.len() as u64).to_le_bytes());
            bytes.extend(key);
            bytes.extend(kind.to_le_bytes());
            bytes.extend(value);
        }
        for tensor in &self.tensors {
            bytes.extend((tensor.name.len() as u64).to_le_bytes());
            bytes.extend(&tensor.name);
            bytes.extend((tensor.sizes.len() as u32).to_le_bytes());
            for size in &tensor.sizes {
                bytes.extend(size.to_le_bytes());
            }
            bytes.extend(tensor.kind.to_le_bytes());
            bytes.extend(tensor.offset.to_le_bytes());
        }
        bytes
    }

    /// The whole file.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.header();
        bytes.resize(bytes.len().next_multiple_of(self.alignment) + self.data, 0);
        bytes
    }
}

/// A text as the format writes it.
pub fn text(text: &str) -> Vec<u8> {
    let len = (text.len() as u64).to_le_bytes();
    [&len, text.as_bytes()].concat()
}

/// An array of this element type.
pub fn array(kind: u32, len: u64, elements: &[u8]) -> Vec<u8> {
    [&kind.to_le_bytes(), &len.to_le_bytes()[..], elements].concat()
}
