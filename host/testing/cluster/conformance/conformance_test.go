// Package conformance runs the Gateway API conformance suite. Everything is said by flags: the suite's own, and `-only`.
package conformance

import (
	"flag"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/gateway-api/conformance"
	"sigs.k8s.io/gateway-api/conformance/tests"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
)

var only = flag.String("only", "", "Comma-separated names of tests to run, whatever features the GatewayClass claims")

func TestConformance(t *testing.T) {
	options := conformance.DefaultOptions(t)
	if *only == "" {
		conformance.RunConformanceWithOptions(t, options)
		return
	}
	// The suite's own flag takes one name only.
	selected := selection(t, strings.Split(*only, ","))
	for _, test := range selected {
		options.SupportedFeatures = append(options.SupportedFeatures, test.Features...)
	}
	run, err := suite.NewConformanceTestSuite(options)
	if err != nil {
		t.Fatalf("the suite does not start: %v", err)
	}
	run.Setup(t, tests.ConformanceTests)
	if err := run.Run(t, selected); err != nil {
		t.Fatal(err)
	}
}

func selection(t *testing.T, names []string) []suite.ConformanceTest {
	var selected []suite.ConformanceTest
	for _, name := range names {
		index := slices.IndexFunc(tests.ConformanceTests, func(test suite.ConformanceTest) bool {
			return strings.EqualFold(test.ShortName, name)
		})
		if index < 0 {
			t.Fatalf("there is no test %q", name)
		}
		selected = append(selected, tests.ConformanceTests[index])
	}
	return selected
}
