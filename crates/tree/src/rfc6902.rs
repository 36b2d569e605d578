//! RFC 6902 on a document: each operation is worked out where its pointer leads, without reading
//! anything else.

use crate::edit::short;
use crate::error::{Error, Result};
use crate::key;
use crate::path::{Path, Segment, pointer_index, pointer_tokens};
use crate::row::{Kind, Row};
use crate::rows::Rows;
use crate::value::Value;
use crate::writer::{Writer, decoded, not_found, wrong_kind};
use json_patch::{Patch, PatchOperation};

/// Where a pointer leads.
enum Place {
    Node(Path),
    /// Behind the last element of this array.
    End(Path),
}

impl Writer<'_> {
    /// Applies a patch whose pointers start at `base`.
    pub(crate) fn json_patch(&mut self, base: &Path, patch: &Patch) -> Result<()> {
        for operation in &patch.0 {
            match operation {
                PatchOperation::Add(add) => {
                    self.add(base, add.path.as_str(), &Value::from(add.value.clone()))?;
                }
                PatchOperation::Remove(remove) => {
                    let path = self.node(base, remove.path.as_str())?;
                    self.delete(&path)?;
                }
                PatchOperation::Replace(replace) => {
                    let path = self.node(base, replace.path.as_str())?;
                    self.there(&path)?;
                    self.set(&path, &Value::from(replace.value.clone()))?;
                }
                PatchOperation::Move(moved) => {
                    let from = self.node(base, moved.from.as_str())?;
                    let (from_text, to) = (moved.from.as_str(), moved.path.as_str());
                    if to
                        .strip_prefix(from_text)
                        .is_some_and(|rest| rest.starts_with('/'))
                    {
                        return Err(Error::Refused {
                            path: from,
                            what: "it cannot be moved into itself".into(),
                        });
                    }
                    let value = self.there(&from)?;
                    self.delete(&from)?;
                    self.add(base, to, &value)?;
                }
                PatchOperation::Copy(copy) => {
                    let from = self.node(base, copy.from.as_str())?;
                    let value = self.there(&from)?;
                    self.add(base, copy.path.as_str(), &value)?;
                }
                PatchOperation::Test(test) => {
                    let path = self.node(base, test.path.as_str())?;
                    let (found, expected) = (self.there(&path)?, Value::from(test.value.clone()));
                    if !found.same(&expected) {
                        return Err(Error::Unexpected {
                            path,
                            expected: short(&expected),
                            found: format!("it is {}", short(&found)),
                        });
                    }
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, base: &Path, pointer: &str, value: &Value) -> Result<()> {
        match lead(&self.stage.rows(), base, pointer)? {
            Place::End(array) => self.append(&array, value).map(drop),
            Place::Node(path) => match (path.last(), path.parent()) {
                (Some(Segment::Index(index)), Some(array)) if path != *base => {
                    self.insert(&array, *index, value)
                }
                _ => self.set(&path, value),
            },
        }
    }

    fn node(&self, base: &Path, pointer: &str) -> Result<Path> {
        match lead(&self.stage.rows(), base, pointer)? {
            Place::Node(path) => Ok(path),
            Place::End(array) => Err(Error::Refused {
                path: array,
                what: "the place behind the last element (-) is for `add` only".into(),
            }),
        }
    }

    fn there(&self, path: &Path) -> Result<Value> {
        match self.value(path)? {
            Some(value) => Ok(value),
            None => Err(self.not_found(path)?),
        }
    }
}

/// The path that a JSON Pointer leads to; only its last step need not be there.
pub(crate) fn resolve(rows: &dyn Rows, base: &Path, pointer: &str) -> Result<Path> {
    match lead(rows, base, pointer)? {
        Place::Node(path) => Ok(path),
        Place::End(array) => {
            let end = Error::Refused {
                path: array,
                what: "there is no element behind the last one (-)".into(),
            };
            Err(end)
        }
    }
}

fn lead(rows: &dyn Rows, base: &Path, pointer: &str) -> Result<Place> {
    let mut path = base.clone();
    let tokens = pointer_tokens(pointer)?;
    let last = tokens.len();
    for (at, token) in tokens.into_iter().enumerate() {
        let key = key::encode(&path);
        let Some(row) = rows.get(&key)? else {
            return Err(not_found(rows, &path)?);
        };
        let no_index = |wanted| Error::Refused {
            path: path.clone(),
            what: format!("{token:?} is no index of {wanted}"),
        };
        let segment = match decoded(&key, &row)? {
            Row::Container(Kind::Object) => Segment::Field(token),
            Row::Container(Kind::Keyed(_) | Kind::Dense) if token == "-" && at + 1 == last => {
                return Ok(Place::End(path));
            }
            Row::Container(Kind::Keyed(_)) => Segment::Key(token),
            Row::Container(Kind::Dense) => {
                Segment::Index(pointer_index(&token).ok_or_else(|| no_index("an array"))?)
            }
            Row::Container(Kind::Sparse) => {
                let index = token.parse().map_err(|_| no_index("a sparse array"))?;
                Segment::Sparse(index)
            }
            leaf @ Row::Leaf(_) => {
                return Err(wrong_kind(&path, &leaf, "an object or an array"));
            }
        };
        path.push(segment);
    }
    Ok(Place::Node(path))
}
