//! Members of a custom provider that are stored and answered as given: on-behalf-of (served by later work) and private
//! networking (no-ops where agent-identity runs in its user's own network). They are checked as AWS's model says, so
//! that what is stored is what AWS would store.

use serde_json::{Map, Value};

use crate::fields::{Members, one_of, patterned, sized};

const ECHOED: [&str; 4] = [
    "onBehalfOfTokenExchangeConfig",
    "privateEndpoint",
    "privateEndpointOverrides",
    "certificateConfigurations",
];

/// The members that are there, checked.
pub(super) fn echoed(config: &Members) -> Option<Map<String, Value>> {
    let on_behalf_of = optional(config.object("onBehalfOfTokenExchangeConfig")?, on_behalf_of);
    let endpoint = optional(config.object("privateEndpoint")?, private_endpoint);
    let overrides = each(config.objects("privateEndpointOverrides", 0, 5)?, |entry| {
        let domain = entry.required("domain", sized(1, 253));
        let endpoint =
            entry.required_object("privateEndpoint").and_then(|members| private_endpoint(&members));
        domain.and(endpoint)
    });
    let certificates = each(config.objects("certificateConfigurations", 1, 1)?, certificate);
    on_behalf_of.and(endpoint).and(overrides).and(certificates)?;
    Some(
        ECHOED
            .into_iter()
            .filter_map(|name| config.raw(name).map(|value| (name.to_owned(), value.clone())))
            .collect(),
    )
}

fn optional(members: Option<Members>, check: impl Fn(&Members) -> Option<()>) -> Option<()> {
    members.map_or(Some(()), |members| check(&members))
}

fn each(members: Option<Vec<Members>>, check: impl Fn(&Members) -> Option<()>) -> Option<()> {
    members.unwrap_or_default().iter().map(check).fold(Some(()), Option::and)
}

/// `OnBehalfOfTokenExchangeConfigType`.
fn on_behalf_of(config: &Members) -> Option<()> {
    const GRANTS: &[(&str, ())] = &[("TOKEN_EXCHANGE", ()), ("JWT_AUTHORIZATION_GRANT", ())];
    const ACTORS: &[(&str, ())] = &[("NONE", ()), ("M2M", ()), ("AWS_IAM_ID_TOKEN_JWT", ())];
    let grant = config.required("grantType", one_of(GRANTS));
    let exchange = optional(config.object("tokenExchangeGrantTypeConfig")?, |exchange| {
        let actor = exchange.required("actorTokenContent", one_of(ACTORS));
        let scopes = exchange.texts("actorTokenScopes", sized(1, 128));
        actor.and(scopes.map(drop))
    });
    let client = optional(config.object("onBehalfOfAuthenticationConfig")?, |client| {
        client.required("clientAuthenticationMethod", one_of(&[("NO_CLIENT", ())]))
    });
    grant.and(exchange).and(client)
}

/// `PrivateEndpoint`.
fn private_endpoint(endpoint: &Members) -> Option<()> {
    match endpoint.union(&["selfManagedLatticeResource", "managedVpcResource"])? {
        "selfManagedLatticeResource" => {
            let resource = endpoint.required_object("selfManagedLatticeResource")?;
            resource.union(&["resourceConfigurationIdentifier"])?;
            resource.required("resourceConfigurationIdentifier", resource_configuration)
        }
        _ => managed_vpc(&endpoint.required_object("managedVpcResource")?),
    }
}

/// `((rcfg-[0-9a-z]{17})|(arn:[a-z0-9\-]+:vpc-lattice:[a-zA-Z0-9\-]+:\d{12}:resourceconfiguration/rcfg-[0-9a-z]{17}))`
fn resource_configuration(text: &str) -> Result<(), String> {
    let id = match text.split(':').collect::<Vec<_>>().as_slice() {
        [id] => Some(*id),
        ["arn", partition, "vpc-lattice", region, account, resource]
            if !partition.is_empty() && !region.is_empty() && is_account(account) =>
        {
            resource.strip_prefix("resourceconfiguration/")
        }
        _ => None,
    };
    match id {
        Some(id) if is_resource_id(id, "rcfg-", &[17]) => Ok(()),
        _ => Err("must be the id or ARN of a VPC Lattice resource configuration".to_owned()),
    }
}

/// `ManagedVpcResource`.
fn managed_vpc(vpc: &Members) -> Option<()> {
    let id = |prefix: &'static str, lengths: &'static [usize]| {
        move |text: &str| {
            let fits = is_resource_id(text, prefix, lengths);
            if fits { Ok(()) } else { Err(format!("must be an id that begins with {prefix}")) }
        }
    };
    let identifier = vpc.required("vpcIdentifier", id("vpc-", &[8, 17]));
    let subnets = vpc.texts("subnetIds", |text| {
        let rest = text.strip_prefix("subnet-").unwrap_or_default();
        let fits = (8..=17).contains(&rest.len()) && rest.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if fits { Ok(()) } else { Err("must match subnet-[0-9a-zA-Z]{8,17}".to_owned()) }
    });
    if let Some(None) = subnets {
        vpc.missing("subnetIds");
    }
    let addresses = vpc.required("endpointIpAddressType", one_of(&[("IPV4", ()), ("IPV6", ())]));
    let groups = vpc.texts("securityGroupIds", id("sg-", &[8, 17]));
    if groups.as_ref().is_some_and(|groups| groups.as_ref().is_some_and(|groups| groups.len() > 5)) {
        vpc.wrong("securityGroupIds", "must have at most 5 entries");
    }
    let domain = vpc.text("routingDomain", sized(3, 255));
    let tags = super::shapes::tags(vpc);
    identifier
        .and(subnets?.map(drop))
        .and(addresses)
        .and(groups.map(drop))
        .and(domain.map(drop))
        .and(tags.map(drop))
}

/// `CertificateConfiguration`.
fn certificate(certificate: &Members) -> Option<()> {
    match certificate.union(&["s3", "secretsManager"])? {
        "s3" => {
            let s3 = certificate.required_object("s3")?;
            let uri = s3.required("uri", |text| {
                let rest = text.strip_prefix("s3://").unwrap_or_default();
                if (1..=2043).contains(&rest.chars().count()) {
                    Ok(())
                } else {
                    Err("must match s3://.{1,2043}".to_owned())
                }
            });
            let owner =
                s3.text("bucketOwnerAccountId", patterned(12, 12, |c| c.is_ascii_digit(), "[0-9]{12}"));
            uri.and(owner.map(drop))
        }
        _ => {
            let secret = certificate.required_object("secretsManager")?;
            secret.required("secretArn", |text| match text.splitn(7, ':').collect::<Vec<_>>().as_slice() {
                ["arn", partition, "secretsmanager", region, account, "secret", name]
                    if partition.starts_with("aws")
                        && !region.is_empty()
                        && is_account(account)
                        && !name.is_empty() =>
                {
                    Ok(())
                }
                _ => Err("must be the ARN of a secret".to_owned()),
            })
        }
    }
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_resource_id(text: &str, prefix: &str, lengths: &[usize]) -> bool {
    text.strip_prefix(prefix).is_some_and(|rest| {
        lengths.contains(&rest.len())
            && rest.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase())
    })
}
