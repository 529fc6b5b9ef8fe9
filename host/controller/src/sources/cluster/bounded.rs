//! Objects of a cluster as they are read: cut off where they are too deep, so that one object cannot keep the others of its kind from being read.
//!
//! A list is one JSON document, and so is each change of a watch. A parser refuses all of a document that goes too deep, and who may create a
//! WasmPlugin may write a `config` that does: then nobody's WasmPlugin could be read any more.

use std::{borrow::Cow, fmt};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

/// Lists and objects within each other; what is in deeper ones is null. Nothing that has a meaning lies so deep: translation refuses a `config`
/// long before. With what is around an object in a list it is less than the 128 that the parser allows.
const DEEPEST: usize = 112;

/// An object that was cut off where it is too deep.
#[derive(Debug, Clone)]
pub(crate) struct Bounded<K>(pub(crate) K);

impl<'de, K: DeserializeOwned> Deserialize<'de> for Bounded<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Levels(DEEPEST).deserialize(deserializer)?;
        serde_json::from_value(value).map(Self).map_err(D::Error::custom)
    }
}

impl<K: Resource> Resource for Bounded<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(of: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(of)
    }

    fn group(of: &Self::DynamicType) -> Cow<'_, str> {
        K::group(of)
    }

    fn version(of: &Self::DynamicType) -> Cow<'_, str> {
        K::version(of)
    }

    fn api_version(of: &Self::DynamicType) -> Cow<'_, str> {
        K::api_version(of)
    }

    fn plural(of: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(of)
    }

    fn metadata_api() -> bool {
        K::metadata_api()
    }

    fn url_path(of: &Self::DynamicType, namespace: Option<&str>) -> String {
        K::url_path(of, namespace)
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.meta()
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.meta_mut()
    }
}

/// Reads so many levels. The parser skips what is below without going down into it.
struct Levels(usize);

impl<'de> DeserializeSeed<'de> for Levels {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        if self.0 == 0 {
            return IgnoredAny::deserialize(deserializer).map(|_| Value::Null);
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Levels {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Self(self.0 - 1))? {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            object.insert(name, fields.next_value_seed(Self(self.0 - 1))?);
        }
        Ok(object.into())
    }
}

#[cfg(test)]
mod tests {
    use kube::core::{DynamicObject, ObjectList, WatchEvent};

    use super::*;

    /// A WasmPlugin whose config has that many levels, and one beside it.
    fn list(levels: usize) -> String {
        let config = format!("{}1{}", r#"{"a":["#.repeat(levels / 2), "]}".repeat(levels / 2));
        let object = |name: &str, config: &str| {
            format!(
                r#"{{"metadata":{{"name":"{name}","managedFields":[{{"fieldsV1":{config}}}]}},"spec":{{"config":{config}}}}}"#
            )
        };
        format!(
            r#"{{"apiVersion":"penstock.dev/v1alpha1","kind":"WasmPluginList","metadata":{{"resourceVersion":"1"}},"items":[{},{}]}}"#,
            object("deep", &config),
            object("other", r#"{"x":[-1,2,0.5,"\u0041",null,true]}"#),
        )
    }

    #[test]
    fn one_that_is_too_deep_keeps_nobody_elses_from_being_read() {
        type Objects = ObjectList<Bounded<DynamicObject>>;
        assert!(serde_json::from_str::<ObjectList<DynamicObject>>(&list(200)).is_err(), "as it would be without");
        for levels in [2, 100, 200, 200_000] {
            let objects: Objects = serde_json::from_str(&list(levels)).unwrap();
            let [Bounded(deep), Bounded(other)] = &objects.items[..] else { panic!("{levels}") };
            assert_eq!(deep.metadata.name.as_deref(), Some("deep"));
            assert_eq!(deep.metadata.managed_fields.as_ref().map(Vec::len), Some(1));
            let config = serde_json::json!({ "x": [-1, 2, 0.5, "A", null, true] });
            assert_eq!(other.data["spec"]["config"], config);
            let is_whole = deep.data.to_string().contains('1');
            assert_eq!(is_whole, levels <= 100, "{levels}");
            let refused = penstock_core::nesting::is_too_deep(&deep.data["spec"]["config"]);
            assert_eq!(refused, levels > 64, "what was cut off is refused: {levels}");
        }
    }

    #[test]
    fn a_change_of_it_is_read_as_well() {
        let list: Value = serde_json::from_str(&list(2)).unwrap();
        let object = list["items"][0].to_string().replace("[1]", &format!("{}{}", "[".repeat(9000), "]".repeat(9000)));
        let event = format!(r#"{{"type":"MODIFIED","object":{object}}}"#);
        let event = serde_json::from_str::<WatchEvent<Bounded<DynamicObject>>>(&event).unwrap();
        assert!(
            matches!(event, WatchEvent::Modified(Bounded(object)) if object.metadata.name.as_deref() == Some("deep"))
        );
    }
}
