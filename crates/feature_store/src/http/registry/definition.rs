//! What is read in a definition's bytes: its name, what it really is, where it belongs, its tags.

use std::collections::HashMap;

use prost::Message as _;

use super::messages::WithinRequest;
use crate::error::{Error, Kind};
use crate::on_demand::ON_DEMAND;
use crate::proto;
use crate::registry::{LABEL, STREAM, VALIDATION};
use crate::store::objects::ObjectRow;

pub(super) const SAVED_DATASET: Kind = Kind::Other("saved_dataset");
pub(super) const PERMISSION: Kind = Kind::Other("permission");

/// The name in a definition's bytes.
pub(super) fn name_of(kind: Kind, object: &[u8]) -> Result<String, Error> {
    Ok(match kind {
        Kind::DataSource => proto::DataSource::decode(object)?.name,
        VALIDATION => proto::ValidationReference::decode(object)?.name,
        _ => proto::Named::decode(object)?.spec.unwrap_or_default().name,
    })
}

/// SDKs 0.40 and 0.50 send saved datasets to `ApplyFeatureService`. Their features are text,
/// where those of a feature service are messages, which begin with the number of a field.
pub(super) fn kind_meant(kind: Kind, object: &[u8]) -> Kind {
    if kind != Kind::FeatureService {
        return kind;
    }
    let dataset = proto::SavedDataset::decode(object).ok();
    let is_dataset = dataset.and_then(|it| it.spec).is_some_and(|spec| {
        let is_text =
            |feature: &String| feature.contains(':') && !feature.contains(char::is_control);
        spec.storage.is_some() && !spec.features.is_empty() && spec.features.iter().all(is_text)
    });
    if is_dataset { SAVED_DATASET } else { kind }
}

/// Whether a saved dataset is in the namespace and the collection that are asked for, if any.
pub(super) fn is_within(dataset: &[u8], asked: &WithinRequest) -> bool {
    let dataset = proto::SavedDataset::decode(dataset).unwrap_or_default();
    let spec = dataset.spec.unwrap_or_default();
    let within = |asked: &String, own: &String| asked.is_empty() || asked == own;
    within(&asked.namespace, &spec.namespace) && within(&asked.collection, &spec.collection)
}

pub(super) fn has_tags(
    kind: Kind,
    row: &ObjectRow,
    wanted: &HashMap<String, String>,
) -> Result<bool, Error> {
    let bytes = row.spec.as_slice();
    let tags = match kind {
        Kind::Entity => proto::Entity::decode(bytes)?.spec.unwrap_or_default().tags,
        Kind::FeatureView => {
            proto::FeatureView::decode(bytes)?
                .spec
                .unwrap_or_default()
                .tags
        }
        ON_DEMAND | STREAM => proto::Tagged::decode(bytes)?.spec.unwrap_or_default().tags,
        Kind::FeatureService => {
            proto::FeatureService::decode(bytes)?
                .spec
                .unwrap_or_default()
                .tags
        }
        Kind::DataSource => proto::DataSource::decode(bytes)?.tags,
        LABEL => {
            proto::LabelView::decode(bytes)?
                .spec
                .unwrap_or_default()
                .tags
        }
        SAVED_DATASET => {
            proto::SavedDataset::decode(bytes)?
                .spec
                .unwrap_or_default()
                .tags
        }
        VALIDATION => proto::ValidationReference::decode(bytes)?.tags,
        PERMISSION => {
            proto::Permission::decode(bytes)?
                .spec
                .unwrap_or_default()
                .tags
        }
        other => {
            return Err(Error::Unsupported(format!(
                "{other} cannot be listed by tags here"
            )));
        }
    };
    Ok(includes(&tags, wanted))
}

pub(super) fn includes(tags: &HashMap<String, String>, wanted: &HashMap<String, String>) -> bool {
    let mut wanted = wanted.iter();
    wanted.all(|(key, value)| tags.get(key) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_saved_dataset_is_told_from_a_feature_service() {
        let projection = proto::Projection {
            feature_view_name: "orders".to_owned(),
            feature_view_name_alias: "orders:of_buyers".to_owned(),
            ..proto::Projection::default()
        };
        let spec = proto::FeatureServiceSpec {
            name: "churn".to_owned(),
            features: vec![projection],
            ..proto::FeatureServiceSpec::default()
        };
        let service = proto::FeatureService {
            spec: Some(spec),
            meta: None,
        };
        let service = service.encode_to_vec();
        assert_eq!(
            kind_meant(Kind::FeatureService, &service),
            Kind::FeatureService
        );
        let spec = proto::SavedDatasetSpec {
            features: vec!["orders:total_orders".to_owned()],
            storage: Some(Vec::new()),
            ..proto::SavedDatasetSpec::default()
        };
        let dataset = proto::SavedDataset { spec: Some(spec) };
        let dataset = dataset.encode_to_vec();
        assert_eq!(kind_meant(Kind::FeatureService, &dataset), SAVED_DATASET);
        assert_eq!(kind_meant(Kind::Entity, &dataset), Kind::Entity);
    }
}
