package stix_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"minato.example/internal/stix"
)

const bundleID = "bundle--5d0092c5-5f74-4287-9642-33f4c354e56d"

// bundleOf puts objects, written as JSON, into a bundle.
func bundleOf(objects ...string) []byte {
	return []byte(`{"type":"bundle","id":"` + bundleID + `","objects":[` + strings.Join(objects, ",") + `]}`)
}

// sco writes a cyber-observable object; the properties come before the type.
func sco(kind, properties string) string {
	return fmt.Sprintf(`{%s,"type":%q,"id":"%s--0c5d0e9d-1f2c-4e27-8d4e-6d0c2d8d9c11"}`, properties, kind, kind)
}

func indicator(pattern, patternType string) string {
	p, err := json.Marshal(pattern)
	if err != nil {
		panic(err)
	}
	return sco("indicator", `"pattern":`+string(p)+`,"pattern_type":"`+patternType+`"`)
}

func TestScanFindsObservablesInObjects(t *testing.T) {
	got, err := stix.Scan(bundleOf(
		sco("ipv4-addr", `"value":"192.0.2.1"`),
		sco("ipv4-addr", `"value":"192.0.2.2/32"`),
		sco("ipv4-addr", `"value":"198.51.100.0/24"`),
		sco("ipv6-addr", `"value":"2001:0DB8::1"`),
		sco("domain-name", `"value":"Evil.example"`),
		sco("url", `"value":"http://Evil.example/A"`),
		sco("email-addr", `"value":"A@evil.example"`),
		sco("file", `"name":"update.exe","hashes":{"MD5":"`+strings.ToUpper(anMD5)+`","SHA-256":"`+aSHA256+`","IMPHASH":"`+anMD5[1:]+`0","x":{"MD5":1}}`),
		sco("domain-name", `"value":"http://link.example/in/a/domain"`),
		sco("domain-name", `"value":"`+anMD5+`"`),
		sco("identity", `"name":"港湾","value":"not.example"`),
		sco("observed-data", `"objects":{"0":{"value":"192.0.2.3","type":"ipv4-addr"},"1":{"type":"file","name":"x.dll"},"2":7}`),
		sco("ipv4-addr", `"value":"192.0.2.1"`),
	))
	require.NoError(t, err)
	require.Equal(t, stix.Summary{ID: bundleID, Objects: 13, Observables: []stix.Observable{
		{ipv4, "192.0.2.1"},
		{ipv4, "192.0.2.2"},
		{ipv6, "2001:db8::1"},
		{domain, "evil.example"},
		{link, "http://evil.example/A"},
		{email, "A@evil.example"},
		{md5, anMD5},
		{sha256, aSHA256},
		{file, "update.exe"},
		{link, "http://link.example/in/a/domain"},
		{ipv4, "192.0.2.3"},
		{file, "x.dll"},
	}}, got)
}

func TestScanFindsValuesInPatterns(t *testing.T) {
	for pattern, want := range map[string][]stix.Observable{
		`[ipv4-addr:value = '192.0.2.1']`:                                              {{ipv4, "192.0.2.1"}},
		`[ipv4-addr:value IN ('192.0.2.1', '192.0.2.2/32', '192.0.2.0/24')]`:           {{ipv4, "192.0.2.1"}, {ipv4, "192.0.2.2"}},
		`[file:hashes.'SHA-256' = '` + aSHA256 + `' AND file:name='a\\b\'c.exe']`:      {{sha256, aSHA256}, {file, `a\b'c.exe`}},
		`[file:hashes.MD5 = '` + anMD5 + `' OR file:hashes.IMPHASH = '` + anMD5 + `']`: {{md5, anMD5}},
		`[domain-name:value NOT = 'a.example' OR domain-name:value != 'b.example']`:    nil,
		`[domain-name:value NOT IN ('a.example','b.example')]`:                         nil,
		`[domain-name:value LIKE 'a.example' OR url:value MATCHES 'http://a.example']`: nil,
		`[ipv4-addr:value ISSUBSET '192.0.2.1']`:                                       nil,
		`[url:value='http://A.example/x'] FOLLOWEDBY ([domain-name:value = 'a.example' AND file:size > 5]) WITHIN 5 SECONDS START t'2026-01-01T00:00:00Z' STOP t'2026-01-02T00:00:00Z'`: {
			{link, "http://a.example/x"}, {domain, "a.example"},
		},
		`[network-traffic:dst_ref.value = '203.0.113.33/32' AND email-message:to_refs[*].value = 'a@b.example']`: {{ipv4, "203.0.113.33"}, {email, "a@b.example"}},
		`[process:image_ref.name = 'evil.exe' AND EXISTS file:name] /* 'x' */`:                                   {{file, "evil.exe"}},
		"[ // a comment 'c.example'\n domain-name:value = /* = */ 'a.example']":                                  {{domain, "a.example"}},
		`[artifact:payload_bin = b'ABCD' AND domain-name:value = 'a.example']`:                                   {{domain, "a.example"}},
		`[domain-name:value = 'a.example`:                                                                        nil,
		`[user-account:user_id = 'a.example']`:                                                                   nil,
		`'`:                                                                                                      nil, `[a:b[`: nil, `[a:'`: nil, `h'`: nil, `/*`: nil, `\`: nil,
	} {
		got, err := stix.Scan(bundleOf(indicator(pattern, "stix")))
		require.NoError(t, err, pattern)
		require.Equal(t, want, got.Observables, pattern)

		got, err = stix.Scan(bundleOf(indicator(pattern, "snort")))
		require.NoError(t, err, pattern)
		require.Empty(t, got.Observables, pattern)
	}
}

func TestScanRefusesWhatTwoProgramsCouldReadDifferently(t *testing.T) {
	const head = `{"type":"bundle","id":"` + bundleID + `"`
	whole := string(bundleOf(sco("identity", `"name":"x"`)))
	deep := func(n int) string {
		return string(bundleOf(sco("x-deep", `"x":`+strings.Repeat("[", n)+strings.Repeat("]", n))))
	}
	for document, pointerAndReason := range map[string][2]string{
		string(bundleOf(sco("x", `"object_marking_refs":["red"],"object_marking_refs":["clear"]`))): {"/objects/0/object_marking_refs", "twice"},
		string(bundleOf(sco("x", `"a":{"b":1,"\u0062":2}`))):                                        {"/objects/0/a/b", "twice"},
		string(bundleOf(sco("x", `"typ\u0065":"x"`))):                                               {"/objects/0/type", "twice"},
		string(bundleOf(sco("x", `"Object_Marking_Refs":[]`))):                                      {"/objects/0/Object_Marking_Refs", "object_marking_refs"},
		string(bundleOf(sco("x", `"object_mar\u212aing_refs":[]`))):                                 {"/objects/0/object_mar\u212aing_refs", "object_marking_refs"},
		string(bundleOf(sco("x", `"Granular_markings":[]`))):                                        {"/objects/0/Granular_markings", "granular_markings"},
		string(bundleOf(sco("x", `"TYPE":"y"`))):                                                    {"/objects/0/TYPE", "type"},
		string(bundleOf(sco("observed-data", `"objects":{"0":{"Type":"file"}}`))):                   {"/objects/0/objects/0/Type", "type"},
		head + `,"Objects":[]}`:                                                                     {"/Objects", "objects"},
		head + `,"objects":[],"ID":1}`:                                                              {"/ID", "id"},
		head + `}`:                                                                                  {"", "no objects"},
		`{"type":"bundle","objects":[]}`:                                                            {"", "no id"},
		`{"id":"` + bundleID + `","objects":[]}`:                                                    {"", "no type"},
		`{"type":"report","id":"` + bundleID + `","objects":[]}`:                                    {"/type", "bundle"},
		`{"type":"bundle","id":"bundle--1","objects":[]}`:                                           {"/id", "UUID"},
		`{"type":"bundle","id":"indicator--5d0092c5-5f74-4287-9642-33f4c354e56d"}`:                  {"/id", "UUID"},
		`{"type":"bundle","id":7}`:                                                                  {"/id", "string"},
		head + `,"objects":{}}`:                                                                     {"/objects", "array"},
		head + `,"objects":[7]}`:                                                                    {"/objects/0", "object"},
		head + `,"objects":[{"type":"x"}]}`:                                                         {"/objects/0", "no id"},
		head + `,"objects":[{"id":"x--1"}]}`:                                                        {"/objects/0", "no type"},
		head + `,"objects":[{"type":["x"],"id":"x--1"}]}`:                                           {"/objects/0/type", "string"},
		whole + `{}`:         {"", "follows"},
		whole + `x`:          {"", "follows"},
		whole + "\x00":       {"", "follows"},
		whole[:len(whole)-1]: {"", "ends too early"},
		whole[:60]:           {"", "ends too early"},
		``:                   {"", "ends too early"},
		`[]`:                 {"", "object"},
		"\ufeff" + whole:     {"", "broken"},
		strings.Replace(whole, `"x"`, "\"\xff\"", 1): {"", "UTF-8"},
		strings.Replace(whole, `"x"`, `"\ud800"`, 1): {"/objects/0/name", "broken"},
		strings.Replace(whole, `"x"`, `01`, 1):       {"/objects/0", "broken"},
		strings.Replace(whole, `"x"`, `"x",`, 1):     {"/objects/0", "broken"},
		deep(62):                                     {"", "64 levels"},
		deep(100_000):                                {"", "64 levels"},
		string(bundleOf(strings.Repeat(`{"type":"x","id":"x--1"},`, 100_000) + `{"type":"x","id":"x--1"}`)): {"/objects/100000", "100,000"},
	} {
		shown := document[:min(len(document), 200)]
		_, err := stix.Scan([]byte(document))
		var refusal *stix.BundleError
		require.ErrorAs(t, err, &refusal, shown)
		require.Contains(t, refusal.Error(), pointerAndReason[1], shown)
		require.NotEmpty(t, refusal.Japanese())
		if pointerAndReason[0] != "" {
			require.Equal(t, pointerAndReason[0], refusal.Pointer, shown)
		}
	}
	for _, accepted := range []string{deep(61), head + `,"objects":[]}`, whole + " \n", string(bundleOf(sco("x", `"extensions":{"a":{"Type":1,"ID":2}}`)))} {
		_, err := stix.Scan([]byte(accepted))
		require.NoError(t, err, accepted)
	}
}

func TestScanRefusesEveryTruncation(t *testing.T) {
	whole := bundleOf(sco("ipv4-addr", `"value":"192.0.2.1"`), indicator(`[domain-name:value = 'a.example']`, "stix"))
	for n := range whole {
		_, err := stix.Scan(whole[:n])
		require.Error(t, err, "%d bytes", n)
	}
}

func TestBundleRefusalsAreShortAndClean(t *testing.T) {
	name := strings.Repeat("\u202e\x1b極", 10_000)
	quoted, err := json.Marshal(name)
	require.NoError(t, err)
	for _, document := range [][]byte{
		bundleOf(sco("x", string(quoted)+`:{"a":1,"a":2}`)),
		bundleOf(sco("x", string(quoted)+`:1,`+string(quoted)+`:2`)),
		bundleOf(sco("x", string(quoted)+`:`+strings.Repeat("[", 70))),
	} {
		_, err := stix.Scan(document)
		var refusal *stix.BundleError
		require.ErrorAs(t, err, &refusal)
		for _, message := range []string{refusal.Error(), refusal.Japanese()} {
			require.LessOrEqual(t, utf8.RuneCountInString(message), 400)
			for _, r := range message {
				require.True(t, unicode.IsPrint(r), "%q", r)
			}
		}
	}
}

// largeBundle has the size of a well-filled feed, about 2.5 MB.
func largeBundle() []byte {
	objects := make([]string, 0, 6000)
	for i := range 3000 {
		objects = append(objects,
			fmt.Sprintf(`{"type":"indicator","spec_version":"2.1","id":"indicator--00000000-0000-4000-8000-%012d","created":"2026-04-01T00:00:00.000Z","modified":"2026-04-01T00:00:00.000Z","name":"不審な通信先","description":"港湾のターミナルで確認された通信先","indicator_types":["malicious-activity"],"pattern":"[ipv4-addr:value = '10.%d.%d.1' OR domain-name:value = 'c%d.example']","pattern_type":"stix","valid_from":"2026-04-01T00:00:00Z","object_marking_refs":["marking-definition--55d920b0-5e8b-4f79-9ee9-91f868d9b421"],"kill_chain_phases":[{"kill_chain_name":"lockheed-martin-cyber-kill-chain","phase_name":"command-and-control"}]}`, i, i/200, i%200, i),
			fmt.Sprintf(`{"type":"url","spec_version":"2.1","id":"url--00000000-0000-5000-8000-%012d","value":"http://c%d.example/港/%d"}`, i, i, i))
	}
	return bundleOf(objects...)
}

func TestScanStaysWithinASmallMultipleOfItsInput(t *testing.T) {
	bundle := largeBundle()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	summary, err := stix.Scan(bundle)
	runtime.ReadMemStats(&after)
	require.NoError(t, err)
	require.Equal(t, 6000, summary.Objects)
	require.Len(t, summary.Observables, 9000)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(6*len(bundle)))
}

func BenchmarkScan(b *testing.B) {
	bundle := largeBundle()
	b.SetBytes(int64(len(bundle)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := stix.Scan(bundle); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkObservables(b *testing.B) {
	text := strings.Repeat("通信先はevil[.]example（192.0.2.1）で、hxxps://evil[.]example/a へ接続した。ハッシュは"+aSHA256+"。\n", 2000)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		stix.Observables(text)
	}
}

// FuzzScan demands that whatever Scan accepts is JSON without surprises, and
// that whatever it refuses is refused in words.
func FuzzScan(f *testing.F) {
	f.Add(bundleOf(sco("file", `"name":"a","hashes":{"MD5":"`+anMD5+`"}`), indicator(`[a:b.'c'[*].value IN ('x','y')]`, "stix")))
	f.Add(bundleOf(sco("observed-data", `"objects":{"0":{"type":"url","value":"http://a/"}}`)))
	f.Add([]byte(`{"type":"bundle","Type":1}`))
	f.Add([]byte(`{"objects":[{"id":"a","id":"b"}]}`))
	f.Fuzz(func(t *testing.T, document []byte) {
		summary, err := stix.Scan(document)
		if err != nil {
			var refusal *stix.BundleError
			require.ErrorAs(t, err, &refusal)
			require.NotEmpty(t, refusal.English)
			require.NotEmpty(t, refusal.JapaneseText)
			require.Zero(t, summary)
			return
		}
		// A second, unrelated decoder agrees on the head and the count.
		var second struct {
			ID      string            `json:"id"`
			Objects []json.RawMessage `json:"objects"`
		}
		require.NoError(t, json.Unmarshal(bytes.Clone(document), &second))
		require.Equal(t, second.ID, summary.ID)
		require.Len(t, second.Objects, summary.Objects)
		for _, o := range summary.Observables {
			if o.Type != file {
				requireNormal(t, o)
			}
		}
	})
}
