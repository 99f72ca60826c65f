package stix_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"minato.example/internal/stix"
	"minato.example/tlp"
)

const (
	amber       = "marking-definition--55d920b0-5e8b-4f79-9ee9-91f868d9b421"
	amberStrict = "marking-definition--939a9414-2ddd-4d32-a0cd-375ea402b003"
	red         = "marking-definition--e828b379-4e03-4974-9ac4-e53a884c97c1"
)

// id makes an id of a type.
func id(kind string, n int) string {
	return fmt.Sprintf("%s--00000000-0000-4000-8000-%012d", kind, n)
}

// object writes an object; more are further properties as JSON.
func object(kind string, n int, more ...string) string {
	return fmt.Sprintf(`{"type":%q,"spec_version":"2.1","id":%q,"created":"2026-11-25T03:04:05.000Z","modified":"2026-11-25T03:04:05.000Z"%s}`,
		kind, id(kind, n), strings.Join(append([]string{""}, more...), ","))
}

var (
	technical = stix.Projection{Label: tlp.Amber}
	expert    = stix.Projection{Label: tlp.Amber, Vulnerabilities: true, FileNames: true}
	everybody = stix.Projection{Label: tlp.Amber, Vulnerabilities: true, FileNames: true, Victim: true}
)

// ids are the ids of the objects of a bundle in their order; the bundle must be
// whole.
func ids(t testing.TB, out []byte) (all []string) {
	t.Helper()
	if out == nil {
		return nil
	}
	requireWhole(t, out)
	var b struct{ Objects []struct{ ID string } }
	require.NoError(t, json.Unmarshal(out, &b))
	for _, o := range b.Objects {
		all = append(all, o.ID)
	}
	return all
}

// requireWhole holds that a bundle can be read strictly and refers to nothing
// outside of itself but to the labels of TLP.
func requireWhole(t require.TestingT, out []byte) {
	_, err := stix.Scan(out)
	require.NoError(t, err)
	var b struct{ Objects []map[string]any }
	require.NoError(t, json.Unmarshal(out, &b))
	inside := map[string]bool{}
	for _, o := range b.Objects {
		inside[o["id"].(string)] = true
	}
	for _, mark := range []string{
		amber, amberStrict, red, "marking-definition--94868c89-83c2-464b-929b-a1a8aa3c8487", "marking-definition--bab4a63c-aed9-4cf5-a766-dfca5abac2bb",
		"marking-definition--613f2e26-407d-48c7-9eca-b8e91df99dc9", "marking-definition--34098fce-860f-48ae-8e50-ebd3cc5e41da",
		"marking-definition--f88d31f6-486f-44da-b317-01333bde0b82", "marking-definition--826578e1-40ad-459f-bc73-ede076f81f37",
		"marking-definition--5e57c739-391a-4eb3-b6be-7d15ca92d5ed",
	} {
		inside[mark] = true
	}
	var walk func(name string, v any)
	walk = func(name string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for name, v := range v {
				walk(name, v)
			}
		case []any:
			for _, v := range v {
				walk(name, v)
			}
		case string:
			if strings.HasSuffix(name, "_ref") || strings.HasSuffix(name, "_refs") {
				require.True(t, inside[v], "%s dangles: %s", name, v)
			}
		}
	}
	for _, o := range b.Objects {
		walk("", o)
	}
}

func mustProject(t testing.TB, p stix.Projection, objects ...string) ([]byte, int) {
	t.Helper()
	out, dropped, err := stix.Project(bundleOf(objects...), p)
	require.NoError(t, err)
	return out, dropped
}

const pattern = `"pattern":"[ipv4-addr:value = '198.51.100.23'] OR [file:hashes.'SHA-256' = '` + hash256 + `']","pattern_type":"stix","valid_from":"2026-11-25T03:04:05Z"`

const hash256 = "a14197f11d70b39961bc1316f51b07aabbf431c7456e4705df3a7a22057b7f8d"

func TestOnlyTypesOfTheListGo(t *testing.T) {
	for kind, c := range map[string]struct {
		more  string
		scope int // 0 for all, 1 with vulnerabilities, 2 with the victim, 3 nobody
	}{
		"indicator":            {pattern, 0},
		"malware":              {`"name":"x","is_family":true`, 0},
		"malware-analysis":     {`"product":"x"`, 0},
		"attack-pattern":       {`"name":"x"`, 0},
		"tool":                 {`"name":"x"`, 0},
		"infrastructure":       {`"name":"x"`, 0},
		"campaign":             {`"name":"x"`, 0},
		"intrusion-set":        {`"name":"x"`, 0},
		"threat-actor":         {`"name":"x"`, 0},
		"vulnerability":        {`"name":"CVE-2026-0001"`, 1},
		"identity":             {`"name":"x"`, 2},
		"location":             {`"country":"JP"`, 2},
		"incident":             {`"name":"x"`, 2},
		"course-of-action":     {`"name":"x"`, 2},
		"user-account":         {`"account_login":"x"`, 2},
		"mac-addr":             {`"value":"00:00:5e:00:53:01"`, 2},
		"process":              {`"command_line":"x"`, 2},
		"email-addr":           {`"value":"a@victim.example"`, 2},
		"language-content":     {`"object_ref":"x","contents":{}`, 3},
		"extension-definition": {`"name":"x"`, 3},
		"marking-definition":   {`"name":"TLP:AMBER"`, 3},
		"artifact":             {`"payload_bin":"eA=="`, 3},
		"x-minato-thing":       {`"name":"x"`, 3},
		"Indicator":            {pattern, 3},
	} {
		for i, p := range []stix.Projection{technical, expert, everybody} {
			out, dropped := mustProject(t, p, object(kind, 1, c.more))
			require.Equal(t, i >= c.scope, out != nil, "%s in %v", kind, p)
			require.Equal(t, out == nil, dropped == 1)
		}
	}
}

func TestOnlyPropertiesOfTheListGo(t *testing.T) {
	out, dropped := mustProject(t, technical, object("malware", 1,
		`"name":"Ransom"`, `"description":"free text stays"`, `"is_family":true`, `"malware_types":["ransomware"]`,
		`"labels":["source:HHFT"]`, `"x_asset":"TOS-APP-03"`, `"created_by_ref":"`+id("identity", 9)+`"`, `"confidence":70`, `"lang":"ja"`,
		`"extensions":{"extension-definition--1":{"extension_type":"property-extension","who":"HHFT"}}`,
		`"kill_chain_phases":[{"kill_chain_name":"lockheed","phase_name":"delivery","x_who":"HHFT"}]`,
		`"aliases":["A",{"who":"HHFT"}]`, `"capabilities":{"who":"HHFT"}`, `"Name":"HHFT"`, `"first_seen":null`,
		`"external_references":[{"source_name":"HHFT ServiceDesk","external_id":"INC-1"},{"source_name":"mitre-attack","external_id":"S0372","url":"https://hhft.example/S0372","description":"HHFT"},`+
			`{"source_name":"mitre-attack","external_id":"HHFT"},{"source_name":"cve","external_id":"CVE-2026-0001"}]`))
	require.Zero(t, dropped)
	require.Equal(t, `{"id":"bundle--`, string(out[:15]))
	_, objects, _ := strings.Cut(string(out), `"objects":`)
	require.Equal(t, `[{"confidence":70,"created":"2026-11-25T03:04:05.000Z","description":"free text stays",`+
		`"external_references":[{"external_id":"S0372","source_name":"mitre-attack"}],"id":"`+id("malware", 1)+`","is_family":true,`+
		`"kill_chain_phases":[{"kill_chain_name":"lockheed","phase_name":"delivery"}],"lang":"ja","malware_types":["ransomware"],`+
		`"modified":"2026-11-25T03:04:05.000Z","name":"Ransom","spec_version":"2.1","type":"malware"}],"type":"bundle"}`, objects)
	out, _ = mustProject(t, expert, object("malware", 1, `"external_references":[{"source_name":"cve","external_id":"CVE-2026-0001"}]`))
	require.Contains(t, string(out), "CVE-2026-0001")
}

func TestAnObservableGoesOnlyWithTheAttacker(t *testing.T) {
	ip := func(n int, value string) string { return object("ipv4-addr", n, fmt.Sprintf(`"value":%q`, value)) }
	relation := func(n int, kind, from, to string) string {
		return object("relationship", n, fmt.Sprintf(`"relationship_type":%q,"source_ref":%q,"target_ref":%q`, kind, from, to))
	}
	objects := []string{
		object("indicator", 1, pattern),
		ip(1, "198.51.100.23"), // in the pattern
		ip(2, "192.0.2.57"),    // the victim's
		object("file", 1, `"name":"update_kb.exe"`, `"hashes":{"SHA-256":"`+strings.ToUpper(hash256)+`"}`),
		object("file", 2, `"name":"給与明細.xlsx"`, `"hashes":{"MD5":"d41d8cd98f00b204e9800998ecf8427e"}`),
		object("malware", 1, `"name":"x"`, `"sample_refs":["`+id("file", 3)+`"]`),
		object("file", 3, `"name":"sample.bin"`, `"hashes":{"MD5":"00000000000000000000000000000000"}`),
		object("domain-name", 1, `"value":"c2.example"`, `"resolves_to_refs":["`+id("ipv4-addr", 3)+`"]`),
		ip(3, "203.0.113.9"), // where the attacker's domain leads
		relation(1, "communicates-with", id("malware", 1), id("domain-name", 1)),
		object("email-addr", 1, `"value":"yamada@victim.example"`, `"display_name":"山田"`),
		relation(2, "targets", id("malware", 1), id("email-addr", 1)),
		relation(3, "related-to", id("indicator", 1), id("ipv4-addr", 2)),
		object("infrastructure", 1, `"name":"C2"`),
		object("infrastructure", 2, `"name":"TOS of the victim"`),
		relation(4, "compromises", id("threat-actor", 1), id("infrastructure", 2)),
		object("threat-actor", 1, `"name":"someone"`),
		relation(5, "consists-of", id("infrastructure", 2), id("ipv4-addr", 4)),
		ip(4, "192.0.2.58"),
		relation(6, "consists-of", id("infrastructure", 1), id("autonomous-system", 1)),
		object("autonomous-system", 1, `"number":64496`),
		object("domain-name", 2, `"value":"victim.example"`, `"resolves_to_refs":["`+id("ipv4-addr", 1)+`"]`),
	}
	out, dropped := mustProject(t, technical, objects...)
	require.Equal(t, []string{
		id("indicator", 1), id("ipv4-addr", 1), id("file", 1), id("malware", 1), id("file", 3), id("domain-name", 1), id("ipv4-addr", 3),
		id("relationship", 1), id("infrastructure", 1), id("threat-actor", 1), id("relationship", 6), id("autonomous-system", 1),
	}, ids(t, out))
	require.Equal(t, len(objects)-12, dropped)
	require.NotContains(t, string(out), "update_kb.exe")
	out, _ = mustProject(t, expert, objects...)
	require.Contains(t, string(out), "update_kb.exe")
	require.NotContains(t, string(out), "victim")
	out, dropped = mustProject(t, everybody, objects...)
	require.Zero(t, dropped)
	require.Contains(t, string(out), "yamada@victim.example")
	require.NotContains(t, string(out), "山田", "a property that is on no list")
}

func TestNothingDangles(t *testing.T) {
	chain := []string{ // each is nothing without the next
		object("relationship", 1, `"relationship_type":"uses","source_ref":"`+id("relationship", 2)+`","target_ref":"`+id("tool", 1)+`"`),
		object("relationship", 2, `"relationship_type":"uses","source_ref":"`+id("relationship", 3)+`","target_ref":"`+id("tool", 1)+`"`),
		object("relationship", 3, `"relationship_type":"uses","source_ref":"`+id("identity", 1)+`","target_ref":"`+id("tool", 1)+`"`),
		object("tool", 1, `"name":"x"`),
		object("identity", 1, `"name":"x"`),
		object("relationship", 4, `"relationship_type":"uses","source_ref":"`+id("tool", 1)+`","target_ref":"`+id("tool", 99)+`"`),
		object("relationship", 5, `"relationship_type":"uses","source_ref":["`+id("tool", 1)+`"],"target_ref":{"x":"`+id("tool", 1)+`"}`),
	}
	out, _ := mustProject(t, technical, chain...)
	require.Equal(t, []string{id("tool", 1)}, ids(t, out))

	out, _ = mustProject(t, everybody,
		object("report", 1, `"name":"x"`, `"object_refs":["`+id("tool", 1)+`","`+id("x-thing", 1)+`","`+id("tool", 99)+`"]`),
		object("report", 2, `"name":"x"`, `"object_refs":["`+id("x-thing", 1)+`"]`),
		object("tool", 1, `"name":"x"`, `"created_by_ref":"`+id("identity", 7)+`"`), object("x-thing", 1))
	require.Equal(t, []string{id("report", 1), id("tool", 1)}, ids(t, out))
	require.NotContains(t, string(out), "created_by_ref")
}

// The worst bundle for a search of what dangles costs no more than another.
func TestALongChainIsTakenOutInOneGo(t *testing.T) {
	const length = 50_000
	objects := []string{object("tool", 1, `"name":"x"`)}
	for i := range length {
		objects = append(objects, object("relationship", i, `"relationship_type":"targets","source_ref":"`+id("relationship", i+1)+`","target_ref":"`+id("tool", 1)+`"`))
	}
	out, dropped := mustProject(t, technical, objects...)
	require.Equal(t, length, dropped)
	require.Equal(t, []string{id("tool", 1)}, ids(t, out))
}

func TestMarkingsNeverLoosen(t *testing.T) {
	tool := func(more ...string) string {
		return object("tool", 1, append([]string{`"name":"x"`, `"description":"y"`}, more...)...)
	}
	terms := object("marking-definition", 15, `"definition_type":"statement"`, `"definition":{"statement":"© HHFT"}`)
	for name, c := range map[string]struct {
		more string
		goes bool
	}{
		"none":                         {`"revoked":false`, true},
		"as the report":                {`"object_marking_refs":["` + amber + `"]`, true},
		"stricter":                     {`"object_marking_refs":["` + amberStrict + `"]`, false},
		"both":                         {`"object_marking_refs":["` + amber + `","` + red + `"]`, false},
		"terms":                        {`"object_marking_refs":["` + id("marking-definition", 15) + `"]`, true},
		"unknown":                      {`"object_marking_refs":["` + id("marking-definition", 16) + `"]`, false},
		"no list":                      {`"object_marking_refs":"` + amber + `"`, false},
		"no id":                        {`"object_marking_refs":[7]`, false},
		"the name, stricter":           {`"granular_markings":[{"marking_ref":"` + red + `","selectors":["name"]}]`, false},
		"everything, stricter":         {`"granular_markings":[{"marking_ref":"` + red + `"}]`, false},
		"the type, unknown":            {`"granular_markings":[{"marking_ref":"` + id("marking-definition", 16) + `","selectors":["type"]}]`, false},
		"the description, the same":    {`"granular_markings":[{"marking_ref":"` + amber + `","selectors":["description"]}]`, true},
		"a language":                   {`"granular_markings":[{"lang":"ja","selectors":["name"]}]`, true},
		"neither marking nor language": {`"granular_markings":[{"selectors":["name"]}]`, false},
	} {
		out, _ := mustProject(t, technical, tool(c.more), terms)
		require.Equal(t, c.goes, out != nil, name)
		require.NotContains(t, string(out), "HHFT")
		require.NotContains(t, string(out), id("marking-definition", 15))
	}
	out, _ := mustProject(t, technical, tool(`"object_marking_refs":["`+id("marking-definition", 15)+`","`+amber+`"]`,
		`"external_references":[{"source_name":"HHFT","external_id":"1"},{"source_name":"mitre-attack","external_id":"T1190"}]`,
		`"granular_markings":[{"marking_ref":"`+red+`","selectors":["description"]},{"marking_ref":"`+amber+`","selectors":["external_references.[1].external_id","x_gone","external_references"]},`+
			`{"lang":"en","selectors":["description"]},{"marking_ref":"`+id("marking-definition", 15)+`","selectors":["name"]}]`), terms)
	require.Equal(t, []string{id("tool", 1)}, ids(t, out))
	require.NotContains(t, string(out), "description")
	require.Contains(t, string(out), `"granular_markings":[{"marking_ref":"`+amber+`","selectors":["external_references"]}]`)
	require.Contains(t, string(out), `"object_marking_refs":["`+amber+`"]`)

	out, _, err := stix.Project(bundleOf(tool(`"object_marking_refs":["`+amber+`"]`)), stix.Projection{})
	require.NoError(t, err)
	require.Nil(t, out, "a report without a label shares nothing that has one")
}

func TestWhatScanRefusesIsRefused(t *testing.T) {
	for _, bad := range []string{
		``, `{}`, `[]`, `{"type":"bundle"}`, string(bundleOf(object("tool", 1))) + "x",
		string(bundleOf(`{"type":"tool","id":"tool--1","name":"a","name":"b"}`)),
		string(bundleOf(`{"type":"tool","id":"tool--1","Object_Marking_Refs":[]}`)),
		string(bundleOf(`{"type":"tool"}`)), string(bundleOf("{\"type\":\"tool\",\"id\":\"\xff\"}")),
	} {
		out, _, err := stix.Project([]byte(bad), everybody)
		var refusal *stix.BundleError
		require.ErrorAs(t, err, &refusal, bad)
		require.Nil(t, out)
	}
}

func TestEqualContentGivesEqualBytes(t *testing.T) {
	a := bundleOf(object("tool", 1, `"name":"\u6e2f"`, `"x_who":"A"`), object("identity", 1, `"name":"A"`))
	b := []byte(`{ "objects": [ {"name": "港", "modified":"2026-11-25T03:04:05.000Z", "created" : "2026-11-25T03:04:05.000Z",
		"id":"` + id("tool", 1) + `", "spec_version":"2.1", "type":"tool"} ], "x_who":"B", "id":"bundle--ffffffff-0000-4000-8000-000000000001", "type":"bundle"}`)
	first, _, err := stix.Project(a, technical)
	require.NoError(t, err)
	second, _, err := stix.Project(b, technical)
	require.NoError(t, err)
	require.Equal(t, string(first), string(second))
	require.Regexp(t, `^\{"id":"bundle--[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"`, string(first))
	other, _ := mustProject(t, technical, object("tool", 1, `"name":"山"`))
	require.NotEqual(t, string(first[:60]), string(other[:60]), "other content, another id")
	require.Equal(t, `{"type":"bundle"`, string(a[:16]), "the input stays as it was")
}

// Any mix of objects, references and markings projects to a whole bundle, twice
// to the same, and to no more than a wider projection.
func TestAnyBundleProjectsToAWholeOne(t *testing.T) {
	kinds := []string{"tool", "indicator", "malware", "ipv4-addr", "domain-name", "identity", "relationship", "report", "vulnerability", "marking-definition", "x-thing"}
	rapid.Check(t, func(t *rapid.T) {
		ref := func() string {
			return id(rapid.SampledFrom(kinds).Draw(t, "to"), rapid.IntRange(1, 3).Draw(t, "number"))
		}
		var objects []string
		for range rapid.IntRange(0, 20).Draw(t, "objects") {
			kind := rapid.SampledFrom(kinds).Draw(t, "kind")
			more := []string{`"name":"x"`, `"created_by_ref":"` + ref() + `"`, `"object_refs":["` + ref() + `","` + ref() + `"]`, `"sample_refs":["` + ref() + `"]`,
				`"resolves_to_refs":["` + ref() + `"]`, `"value":"198.51.100.23"`,
				`"relationship_type":"` + rapid.SampledFrom([]string{"uses", "targets", "communicates-with"}).Draw(t, "type") + `"`,
				`"source_ref":"` + ref() + `"`, `"target_ref":"` + ref() + `"`,
				`"definition_type":"` + rapid.SampledFrom([]string{"statement", "x"}).Draw(t, "definition") + `"`}
			if rapid.Bool().Draw(t, "pattern") {
				more = append(more, pattern)
			}
			if rapid.Bool().Draw(t, "marked") {
				more = append(more, `"object_marking_refs":["`+rapid.SampledFrom([]string{amber, red, ref()}).Draw(t, "mark")+`"]`)
			}
			objects = append(objects, object(kind, rapid.IntRange(1, 3).Draw(t, "id"), more...))
		}
		before := 0
		for _, p := range []stix.Projection{technical, expert, everybody} {
			out, dropped, err := stix.Project(bundleOf(objects...), p)
			require.NoError(t, err)
			left := len(objects) - dropped
			require.GreaterOrEqual(t, left, before)
			before = left
			require.Equal(t, left > 0, out != nil)
			if out == nil {
				continue
			}
			requireWhole(t, out)
			again, dropped, err := stix.Project(out, p)
			require.NoError(t, err)
			require.Zero(t, dropped)
			require.Equal(t, string(out), string(again))
		}
	})
}

func BenchmarkProject100Objects(b *testing.B) {
	var objects []string
	for i := range 33 {
		objects = append(objects, object("indicator", i, pattern, `"name":"C2"`, `"description":"通信先"`, `"object_marking_refs":["`+amber+`"]`),
			object("malware", i, `"name":"x"`, `"is_family":true`),
			object("relationship", i, `"relationship_type":"indicates","source_ref":"`+id("indicator", i)+`","target_ref":"`+id("malware", i)+`"`))
	}
	bundle := bundleOf(append(objects, object("identity", 1, `"name":"x"`))...)
	b.SetBytes(int64(len(bundle)))
	b.ReportAllocs()
	for b.Loop() {
		out, dropped, err := stix.Project(bundle, technical)
		if err != nil || dropped != 1 || out == nil {
			b.Fatal(dropped, err)
		}
	}
}
