//! The port specifications of `EXPOSE`.

use std::net::IpAddr;

/// Reads `[[address:]host-port:]port[/protocol]`, where a port may be a range, as a list such as
/// `80/tcp`.
///
/// Address and host port are checked and have no effect, as in BuildKit. Errors have its texts.
pub fn parse(spec: &str) -> Result<Vec<String>, String> {
    let (address, host_port, container) = split(spec);
    let (port, protocol) = container.split_once('/').unwrap_or((container, ""));
    if port.is_empty() {
        return Err(format!("invalid port: {}: no port specified", crate::go::quote(spec)));
    }
    let protocol_name = match protocol.to_ascii_lowercase() {
        name if name.is_empty() => "tcp".to_owned(),
        name if matches!(name.as_str(), "tcp" | "udp" | "sctp") => name,
        _ => {
            let spec = crate::go::quote(spec);
            return Err(format!("invalid port: {spec}: invalid proto: {protocol}"));
        }
    };
    let bare_address = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if !address.is_empty() && bare_address.unwrap_or(address).parse::<IpAddr>().is_err() {
        return Err(format!("invalid IP address: {address}"));
    }
    let (first, last) = range(port).ok_or_else(|| format!("invalid containerPort: {port}"))?;
    if !host_port.is_empty() {
        let (host_first, host_last) =
            range(host_port).ok_or_else(|| format!("invalid hostPort: {host_port}"))?;
        if first != last && last - first != host_last - host_first {
            return Err(format!(
                "invalid ranges specified for container and host Ports: {port} and {host_port}"
            ));
        }
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol_name}")).collect())
}

fn split(spec: &str) -> (&str, &str, &str) {
    let Some((rest, container)) = spec.rsplit_once(':') else { return ("", "", spec) };
    let (address, host_port) = rest.rsplit_once(':').unwrap_or(("", rest));
    (address, host_port, container)
}

fn range(ports: &str) -> Option<(u16, u16)> {
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    #[track_caller]
    fn check(spec: &str, expected: &str) {
        let actual = match super::parse(spec) {
            Ok(ports) => ports.join(" "),
            Err(message) => format!("error: {message}"),
        };
        assert_eq!(actual, expected, "reading {spec:?}");
    }

    #[test]
    fn a_port_has_a_protocol() {
        check("80", "80/tcp");
        check("80/Udp", "80/udp");
        check("80/", "80/tcp");
        check("+80/sctp", "80/sctp");
        check("0", "0/tcp");
    }

    #[test]
    fn a_range_is_a_list_of_ports() {
        check("8000-8002/udp", "8000/udp 8001/udp 8002/udp");
        check("80-80", "80/tcp");
        check("1-2:3-4", "3/tcp 4/tcp");
    }

    #[test]
    fn address_and_host_port_are_checked_and_dropped() {
        check("0.0.0.0:1234:80", "80/tcp");
        check("[::1]:80:81", "81/tcp");
        check("2001:4860:0:2001::68::333", "333/tcp");
        check("::::80", "80/tcp");
        check("localhost:80:80", "error: invalid IP address: localhost");
        check("1.2.3.4:80", "error: invalid hostPort: 1.2.3.4");
        check(
            "80:8080-8081",
            "error: invalid ranges specified for container and host Ports: 8080-8081 and 80",
        );
    }

    #[test]
    fn what_is_no_port_is_refused() {
        check("", r#"error: invalid port: "": no port specified"#);
        check("0.0.0.0:1-2:/tcp", r#"error: invalid port: "0.0.0.0:1-2:/tcp": no port specified"#);
        check("80/tcp/udp", r#"error: invalid port: "80/tcp/udp": invalid proto: tcp/udp"#);
        for spec in ["65536", "80-", "2-1", "80-81-82", "a", "80 81", "-1"] {
            check(spec, &format!("error: invalid containerPort: {spec}"));
        }
    }
}
