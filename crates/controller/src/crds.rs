//! Applies the definitions of the custom resources, which are part of the program.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};

use crate::error::Error;

/// Applies all of them; the names of those applied. Fields that others own in them are taken over: there is one definition.
pub async fn apply(client: Client) -> Result<Vec<String>, Error> {
    let api: Api<CustomResourceDefinition> = Api::all(client);
    let mut names = Vec::new();
    for (_, definition) in rules::kubernetes::definitions()? {
        let name = definition["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let params = PatchParams::apply("weir-controller").force();
        api.patch(&name, &params, &Patch::Apply(&definition))
            .await
            .map_err(Error::kubernetes(format!("applying {name}")))?;
        names.push(name);
    }
    Ok(names)
}
