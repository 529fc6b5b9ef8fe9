//! The smallest useful plugin: one request header from the configuration.

use penstock_plugin::prelude::*;
#[rustfmt::skip]
#[derive(Deserialize, JsonSchema)]
struct SetHeader { name: String, value: String }
#[rustfmt::skip]
impl Policy for SetHeader {
    type Config = Self;
    fn configure(config: Self) -> Result<Self, Problems> { Ok(config) }
    fn plan(&self) -> Plan { Plan::new().request_writes([&self.name]) }
    fn on_request(&self, request: &Request) -> Verdict {
        request.set(&self.name, &self.value);
        Verdict::Proceed
    }
}
plugin!(policy: SetHeader);

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_plugin::testing::Harness;
    use serde_json::json;

    #[test]
    fn sets_the_header_of_the_configuration() {
        let harness = Harness::<SetHeader>::new(json!({"name": "x-gateway", "value": "penstock"}));
        let request = harness.get("/").header("x-gateway", "from the client").run();
        assert_eq!(request.all("x-gateway"), ["penstock"]);
    }

    #[test]
    fn a_name_that_the_gateway_would_refuse_is_a_problem() {
        let problems = Harness::<SetHeader>::try_new(json!({"name": "upgrade", "value": "h2c"})).err().unwrap();
        assert!(problems.to_string().contains("`upgrade`, which belongs to the connection"), "{problems}");
    }

    #[test]
    fn fifteen_lines_are_enough() {
        let (_, plugin) = include_str!("set-header.rs").split_once("\n\n").unwrap();
        let (plugin, _) = plugin.split_once("\n\n").unwrap();
        let lines = plugin.lines().count();
        assert!(lines <= 15, "{lines} lines:\n{plugin}");
    }
}
