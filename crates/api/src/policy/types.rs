//! The types of Kubernetes' objects as rules see them, for checking rules before they run.

use crate::kinds::Kind;
use crate::schema::table::{self, Form, Shape};
use cel::{ObjectType, Type, escape};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The type of a kind's objects; `Dyn` if nothing is known of it.
pub(super) fn of_kind(kind: &Kind) -> Type {
    let mut types = Types::default();
    let Some(version) = &kind.custom else {
        return types.named(kind.schema);
    };
    let Type::Object(own) = crate::custom::rule_type(version.schema()) else {
        return Type::Dyn;
    };
    let mut fields = own.fields.clone();
    fields.insert(
        "metadata".to_owned(),
        types.named("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
    );
    for field in ["apiVersion", "kind"] {
        fields.insert(field.to_owned(), Type::TEXT);
    }
    Type::Object(Arc::new(ObjectType {
        name: own.name.clone(),
        fields,
    }))
}

/// Types of the table as they have been made.
#[derive(Default)]
struct Types {
    /// `None` while a type is being made: one that contains itself.
    made: BTreeMap<&'static str, Option<Type>>,
}

impl Types {
    fn named(&mut self, name: &str) -> Type {
        let Some(entry) = table::by_name(name) else {
            return Type::Dyn;
        };
        match entry.form {
            Form::Struct => {}
            Form::Time | Form::MicroTime => return Type::Timestamp,
            Form::Object | Form::Any | Form::Quantity | Form::IntOrString => return Type::Dyn,
        }
        if let Some(known) = self.made.get(entry.name) {
            return known.clone().unwrap_or(Type::Dyn);
        }
        self.made.insert(entry.name, None);
        let fields = entry.fields.iter();
        let fields = fields.filter_map(|field| Some((escape(field.name)?, self.shaped(&field.shape))));
        let of = Type::Object(Arc::new(ObjectType {
            name: entry.name.to_owned(),
            fields: fields.collect(),
        }));
        self.made.insert(entry.name, Some(of.clone()));
        of
    }

    fn shaped(&mut self, shape: &Shape) -> Type {
        match shape {
            Shape::String => Type::TEXT,
            Shape::Int32 | Shape::Int64 => Type::Int,
            Shape::Double => Type::Double,
            Shape::Bool => Type::Bool,
            Shape::Byte | Shape::Any => Type::Dyn,
            Shape::Named(id) => self.named(table::by_id(*id).name),
            Shape::Array(item) => Type::list(self.shaped(item)),
            Shape::Map(value) => Type::map(Type::TEXT, self.shaped(value)),
        }
    }
}
