//! Filters over columns.

use std::sync::Arc;

use pulsestream_core::event::{FieldPath, Value, ValueRef};
use pulsestream_core::filter::{CompareOp, Expr, Filter, Predicate};

use super::kernels::{self, Comparison};
use crate::column::DictColumn;
use crate::error::FaultResult;
use crate::field::{NumberField, TextField};
use crate::part::{Dynamic, Part};

/// A filter with its leaves prepared, for all parts.
#[derive(Debug)]
pub(crate) struct FilterPlan(Node);

#[derive(Debug)]
enum Node {
    Always(bool),
    All(Vec<Self>),
    Any(Vec<Self>),
    Not(Box<Self>),
    Leaf(Arc<Leaf>),
}

#[derive(Debug)]
struct Leaf {
    subject: Subject,
    predicate: Predicate,
    /// The leaf as a comparison of numbers, when it is one.
    number: Option<(Comparison, f64)>,
}

#[derive(Debug)]
enum Subject {
    Path(FieldPath),
    TitleOrMessage,
}

impl FilterPlan {
    /// Prepares a filter; `None` matches everything.
    ///
    /// # Errors
    /// `Invalid` when a pattern does not compile, which was checked when the filter was made.
    pub(crate) fn new(filter: Option<&Filter>) -> FaultResult<Self> {
        Ok(Self(filter.map_or(Ok(Node::Always(true)), |filter| Node::new(filter.expr()))?))
    }

    /// Binds the filter to the columns of a part.
    pub(crate) fn bind(&self, part: &Part) -> FaultResult<BoundFilter> {
        Ok(BoundFilter { part: part.clone(), node: self.0.bind(part)?, scratch: Vec::new() })
    }
}

impl Node {
    fn new(expr: &Expr) -> FaultResult<Self> {
        Ok(match expr {
            Expr::True => Self::Always(true),
            Expr::And(parts) => Self::All(Self::cheapest_first(parts)?),
            Expr::Or(parts) => Self::Any(Self::cheapest_first(parts)?),
            Expr::Not(inner) => Self::Not(Box::new(Self::new(inner)?)),
            leaf => {
                let Some(predicate) = Predicate::new(leaf)? else { return Ok(Self::Always(true)) };
                let (subject, number) = match leaf {
                    Expr::Compare { field, op, value } => {
                        (Subject::Path(field.clone()), comparison(*op, value))
                    }
                    Expr::Exists(field) => (Subject::Path(field.clone()), Some((Comparison::Present, 0.0))),
                    Expr::In { field, .. } => (Subject::Path(field.clone()), None),
                    _ => (Subject::TitleOrMessage, None),
                };
                Self::Leaf(Arc::new(Leaf { subject, predicate, number }))
            }
        })
    }

    fn cheapest_first(parts: &[Expr]) -> FaultResult<Vec<Self>> {
        let mut nodes = parts.iter().map(Self::new).collect::<FaultResult<Vec<_>>>()?;
        nodes.sort_by_key(Self::cost);
        Ok(nodes)
    }

    /// Relative cost for a row.
    fn cost(&self) -> u32 {
        match self {
            Self::Always(_) => 0,
            Self::All(parts) | Self::Any(parts) => parts.iter().map(Self::cost).sum(),
            Self::Not(inner) => inner.cost(),
            Self::Leaf(leaf) => match &leaf.subject {
                Subject::TitleOrMessage => 200,
                Subject::Path(FieldPath::Id) => 100,
                Subject::Path(path) => match TextField::of(path) {
                    Some(field) if field.is_wide() => 100,
                    Some(_) => 1,
                    None if path.segments().is_empty() => 2,
                    None => 3,
                },
            },
        }
    }

    fn bind(&self, part: &Part) -> FaultResult<BoundNode> {
        let bind_all =
            |nodes: &[Self]| nodes.iter().map(|node| node.bind(part)).collect::<FaultResult<Vec<_>>>();
        Ok(match self {
            Self::Always(answer) => BoundNode::Always(*answer),
            Self::All(parts) => {
                let parts = bind_all(parts)?;
                if parts.iter().any(|part| matches!(part, BoundNode::Always(false))) {
                    BoundNode::Always(false)
                } else {
                    BoundNode::All(parts)
                }
            }
            Self::Any(parts) => BoundNode::Any(bind_all(parts)?),
            Self::Not(inner) => BoundNode::Not(Box::new(inner.bind(part)?)),
            Self::Leaf(leaf) => Leaf::bind(leaf, part)?,
        })
    }
}

fn comparison(op: CompareOp, value: &Value) -> Option<(Comparison, f64)> {
    let comparison = match op {
        CompareOp::Eq => Comparison::Equal,
        CompareOp::Ne => Comparison::NotEqual,
        CompareOp::Lt => Comparison::Less,
        CompareOp::Le => Comparison::LessOrEqual,
        CompareOp::Gt => Comparison::Greater,
        CompareOp::Ge => Comparison::GreaterOrEqual,
        _ => return None,
    };
    value.as_number().map(|number| (comparison, number))
}

impl Leaf {
    fn bind(this: &Arc<Self>, part: &Part) -> FaultResult<BoundNode> {
        let path = match &this.subject {
            Subject::TitleOrMessage => {
                let either = [(TextField::Title, FieldPath::Title), (TextField::Message, FieldPath::Message)];
                let bound = either.into_iter().map(|(field, path)| this.bind_text(field, &path, part));
                return Ok(BoundNode::Any(bound.collect::<FaultResult<_>>()?));
            }
            Subject::Path(path) => path,
        };
        if *path == FieldPath::Id {
            return Ok(BoundNode::Texts { field: None, leaf: Arc::clone(this) });
        }
        if let Some(field) = TextField::of(path) {
            return this.bind_text(field, path, part);
        }
        if NumberField::of(path).is_some_and(|field| field != NumberField::CacheHit) {
            return Ok(BoundNode::Numbers { values: part.numbers(path)?, leaf: Arc::clone(this) });
        }
        if !path.segments().is_empty()
            && let Dynamic::Numbers(_) = &*part.dynamic(path)?
        {
            return Ok(BoundNode::Numbers { values: part.numbers(path)?, leaf: Arc::clone(this) });
        }
        Ok(this.table(part.dict(path)?))
    }

    fn bind_text(
        self: &Arc<Self>,
        field: TextField,
        path: &FieldPath,
        part: &Part,
    ) -> FaultResult<BoundNode> {
        if part.rows.keeps_dict(field) {
            return Ok(self.table(part.dict(path)?));
        }
        Ok(BoundNode::Texts { field: Some(field), leaf: Arc::clone(self) })
    }

    /// Asks the predicate once for each entry of the dictionary.
    #[allow(clippy::cast_possible_truncation, reason = "codes are below 2^32")]
    fn table(&self, column: Arc<DictColumn>) -> BoundNode {
        let number = column.dictionary.codes();
        let holds = |code: usize| u8::from(self.predicate.holds(&column.dictionary.value(code as u32)));
        let table: Vec<u8> = (0..number).map(holds).collect();
        match kernels::count(&table) {
            0 => BoundNode::Always(false),
            1 => {
                let code = table.iter().position(|holds| *holds == 1).unwrap_or(0) as u32;
                BoundNode::Code { column, code }
            }
            listed if listed == number => BoundNode::Always(true),
            _ => BoundNode::Table { column, table },
        }
    }

    fn keep_numbers(&self, values: &[f64], mask: &mut [u8]) {
        if let Some((comparison, literal)) = self.number {
            kernels::keep_number(values, comparison, literal, mask);
            return;
        }
        for (keep, value) in mask.iter_mut().zip(values) {
            let value = if value.is_nan() { ValueRef::Missing } else { ValueRef::Number(*value) };
            *keep &= u8::from(self.predicate.holds(&value));
        }
    }
}

/// A filter over the columns of one part.
#[derive(Debug)]
pub(crate) struct BoundFilter {
    part: Part,
    node: BoundNode,
    /// Masks of inner nodes, kept for reuse.
    scratch: Vec<Vec<u8>>,
}

#[derive(Debug)]
enum BoundNode {
    Always(bool),
    All(Vec<Self>),
    Any(Vec<Self>),
    Not(Box<Self>),
    Code {
        column: Arc<DictColumn>,
        code: u32,
    },
    Table {
        column: Arc<DictColumn>,
        table: Vec<u8>,
    },
    Numbers {
        values: Arc<Vec<f64>>,
        leaf: Arc<Leaf>,
    },
    /// Texts of a field, or ids.
    Texts {
        field: Option<TextField>,
        leaf: Arc<Leaf>,
    },
}

impl BoundFilter {
    /// Returns whether no row of the part can match.
    pub(crate) fn is_none(&self) -> bool {
        matches!(self.node, BoundNode::Always(false))
    }

    /// Returns whether every row of the part matches.
    pub(crate) fn is_all(&self) -> bool {
        matches!(self.node, BoundNode::Always(true))
    }

    /// Returns the bytes of the columns it looks at.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.node.heap_bytes()
    }

    /// Clears the rows of a mask that do not match; its first byte is the row `start`.
    pub(crate) fn keep(&mut self, start: usize, mask: &mut [u8]) -> FaultResult<()> {
        self.node.keep(&self.part, start, mask, &mut self.scratch)
    }
}

impl BoundNode {
    fn heap_bytes(&self) -> usize {
        match self {
            Self::Always(_) | Self::Texts { .. } => 0,
            Self::All(nodes) | Self::Any(nodes) => nodes.iter().map(Self::heap_bytes).sum(),
            Self::Not(inner) => inner.heap_bytes(),
            Self::Code { column, .. } => column.heap_bytes(),
            Self::Table { column, table } => column.heap_bytes() + table.capacity(),
            Self::Numbers { values, .. } => values.capacity() * 8,
        }
    }

    fn keep(
        &self,
        part: &Part,
        start: usize,
        mask: &mut [u8],
        scratch: &mut Vec<Vec<u8>>,
    ) -> FaultResult<()> {
        let end = start + mask.len();
        match self {
            Self::Always(true) => {}
            Self::Always(false) => mask.fill(0),
            Self::All(nodes) => {
                for node in nodes {
                    node.keep(part, start, mask, scratch)?;
                    if !mask.contains(&1) {
                        break;
                    }
                }
            }
            Self::Any(nodes) => {
                let mut found = take(scratch, mask.len());
                let mut rest = take(scratch, 0);
                for node in nodes {
                    // Rows that match already are not asked again.
                    rest.clear();
                    rest.extend_from_slice(mask);
                    kernels::subtract(&mut rest, &found);
                    node.keep(part, start, &mut rest, scratch)?;
                    kernels::unite(&mut found, &rest);
                }
                mask.copy_from_slice(&found);
                scratch.extend([found, rest]);
            }
            Self::Not(inner) => {
                let mut matching = take(scratch, 0);
                matching.extend_from_slice(mask);
                inner.keep(part, start, &mut matching, scratch)?;
                kernels::subtract(mask, &matching);
                scratch.push(matching);
            }
            Self::Code { column, code } => kernels::keep_code(&column.codes, start, *code, mask),
            Self::Table { column, table } => kernels::keep_listed(&column.codes, start, table, mask),
            Self::Numbers { values, leaf } => leaf.keep_numbers(&values[start..end], mask),
            Self::Texts { field, leaf } => {
                let mut texts = match field {
                    Some(field) => part.texts(*field)?,
                    None => part.rows.ids(&part.cache)?,
                };
                for (index, keep) in mask.iter_mut().enumerate().filter(|(_, keep)| **keep != 0) {
                    let text = texts.get(start + index)?.and_then(|text| std::str::from_utf8(text).ok());
                    let value = text.map_or(ValueRef::Missing, |text| ValueRef::Text(text.into()));
                    *keep = u8::from(leaf.predicate.holds(&value));
                }
            }
        }
        Ok(())
    }
}

fn take(scratch: &mut Vec<Vec<u8>>, length: usize) -> Vec<u8> {
    let mut mask = scratch.pop().unwrap_or_default();
    mask.clear();
    mask.resize(length, 0);
    mask
}
