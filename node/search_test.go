package node

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"minato.example/internal/stix"
	pb "minato.example/proto/minato/v1"
)

// titles gives the titles of what a query finds, newest first.
func titles(t require.TestingT, s *store, query string) []string {
	items, _, err := s.search(context.Background(), liveLane, query, 500, "")
	require.NoError(t, err, query)
	found := []string{}
	for _, item := range items {
		found = append(found, item.GetTitle())
	}
	return found
}

func receiveTitle(t testing.TB, s *store, sequence int, title string) {
	t.Helper()
	d, r := sampleDelivery(t, liveLane, uint64(sequence), newID(t), title)
	d.Source, d.SourceName = "", ""
	_, err := s.receive(context.Background(), liveLane, d, r, nil, nil)
	require.NoError(t, err)
}

func TestJapaneseIsFoundByWordsOfAnyLength(t *testing.T) {
	s := newStore(t)
	for i, title := range []string{
		"名古屋港のTOSが停止", "博多港で不審な通信", "ﾀｰﾐﾅﾙのﾊﾞｯｸｱｯﾌﾟ障害", "ターミナル ゲート", "ＶＰＮ装置の脆弱性 CVE-2026-12345", "バージョン1.2.3", "港", "が゛", "100%の\"確認\" AND OR* NOT NEAR(a b) col:x ^y -z",
	} {
		receiveTitle(t, s, i+1, title)
	}
	for query, want := range map[string][]string{
		"港":           {"港", "博多港で不審な通信", "名古屋港のTOSが停止"},
		"名":           {"名古屋港のTOSが停止"},
		"止":           {"名古屋港のTOSが停止"},
		"停止":          {"名古屋港のTOSが停止"},
		"名古屋":         {"名古屋港のTOSが停止"},
		"名古屋港のTOSが停止": {"名古屋港のTOSが停止"},
		"tos":         {"名古屋港のTOSが停止"}, "TOS": {"名古屋港のTOSが停止"}, "ＴＯＳ": {"名古屋港のTOSが停止"}, "to": {"名古屋港のTOSが停止"}, "s": {"名古屋港のTOSが停止"},
		"古名":              {},
		"停止名":             {},
		"ﾀｰﾐﾅﾙ":           {"ターミナル ゲート", "ﾀｰﾐﾅﾙのﾊﾞｯｸｱｯﾌﾟ障害"},
		"ターミナル":           {"ターミナル ゲート", "ﾀｰﾐﾅﾙのﾊﾞｯｸｱｯﾌﾟ障害"},
		"たーみなる":           {},
		"バックアップ":          {"ﾀｰﾐﾅﾙのﾊﾞｯｸｱｯﾌﾟ障害"},
		"ルゲ":              {},
		"ターミナル ゲート":       {"ターミナル ゲート"},
		"ゲート　ﾀｰﾐﾅﾙ":       {"ターミナル ゲート"},
		"港 通信":            {"博多港で不審な通信"},
		"港 止":             {"名古屋港のTOSが停止"},
		"港 ない":            {},
		"vpn":             {"ＶＰＮ装置の脆弱性 CVE-2026-12345"},
		"cve-2026-123":    {"ＶＰＮ装置の脆弱性 CVE-2026-12345"},
		"2.3":             {"バージョン1.2.3"},
		"1.3":             {},
		"名\u200b古\u00ad屋": {"名古屋港のTOSが停止"},
		"が":               {"が゛", "名古屋港のTOSが停止"},
		"か\u3099":         {"が゛", "名古屋港のTOSが停止"},
		"100%":            {"100%の\"確認\" AND OR* NOT NEAR(a b) col:x ^y -z"},
		"\"":              {"100%の\"確認\" AND OR* NOT NEAR(a b) col:x ^y -z"},
		"\"確認\"":          {"100%の\"確認\" AND OR* NOT NEAR(a b) col:x ^y -z"},
		"NEAR(a":          {"100%の\"確認\" AND OR* NOT NEAR(a b) col:x ^y -z"},
		"港 OR 名":          {},
		"NOT":             {"100%の\"確認\" AND OR* NOT NEAR(a b) col:x ^y -z"},
		"or*":             {"100%の\"確認\" AND OR* NOT NEAR(a b) col:x ^y -z"},
		"(":               {"100%の\"確認\" AND OR* NOT NEAR(a b) col:x ^y -z"},
		"'":               {}, "\";DROP TABLE inbox_live;--": {}, "words:港": {}, "\x00": titles(t, s, ""), "\xff": {}, "𩸽": {}, "zzzz": {},
	} {
		require.Equal(t, want, titles(t, s, query), "query %q", query)
	}
	require.Len(t, titles(t, s, " \t　\n"), 9, "an empty query finds everything")
}

func TestEverySubstringOfATitleFindsIt(t *testing.T) {
	s := newStore(t)
	sequence := 0
	alphabet := []rune("港湾名古屋運営会社のがパ゛ターミナルﾀｰﾐﾅﾙTOSvpn０１2.3-_/\\\"'*()[]:%&|+ 　\t\n𩸽é")
	rapid.Check(t, func(rt *rapid.T) {
		title := string(rapid.SliceOfN(rapid.SampledFrom(alphabet), 1, 20).Draw(rt, "title"))
		sequence++
		receiveTitle(t, s, sequence, title)
		folded := []rune(fold(title))
		if len(folded) == 0 {
			return
		}
		n := rapid.IntRange(1, 4).Draw(rt, "length")
		from := rapid.IntRange(0, len(folded)-1).Draw(rt, "from")
		part := string(folded[from:min(len(folded), from+n)])
		require.Contains(rt, titles(rt, s, part), title, "query %q", part)
		// And nothing is found that does not hold every word.
		for _, found := range titles(rt, s, part) {
			for _, word := range strings.Fields(part) {
				require.Contains(rt, fold(found), word)
			}
		}
	})
}

func TestNoQueryIsSyntax(t *testing.T) {
	s := newStore(t)
	receiveTitle(t, s, 1, "港")
	rapid.Check(t, func(rt *rapid.T) {
		query := rapid.OneOf(rapid.String(), rapid.StringOfN(rapid.SampledFrom([]rune(`"'*()^:-+{},. ANDORNOTEw`)), 0, 30, -1)).Draw(rt, "query")
		_, _, err := s.search(context.Background(), liveLane, query, 0, "")
		if err != nil {
			requireBilingual(t, err, errInvalid)
		}
		for _, c := range matchWords(strings.FieldsFunc(fold(query), breaks)) {
			require.Contains(rt, `0123456789abcdefghijklmnopqrstuvwxyz" *AND`, string(c))
		}
	})
}

func TestEveryRuneHasItsOwnTokenStart(t *testing.T) {
	last := ""
	for r := rune(0); r <= 0x10ffff; r++ {
		var b strings.Builder
		writeRune(&b, r)
		if token := b.String(); len(token) != 4 || token <= last {
			require.Failf(t, "token", "%U gives %s after %s", r, token, last)
		}
		last = b.String()
	}
}

func TestTooLongSearchIsRefused(t *testing.T) {
	s := newStore(t)
	for _, query := range []string{strings.Repeat("港", maxQueryRunes+1), strings.Repeat("港 ", maxQueryWords+1), strings.Repeat(" ", 1<<20)} {
		_, _, err := s.search(t.Context(), liveLane, query, 0, "")
		requireBilingual(t, err, errInvalid)
	}
	_, _, err := s.search(t.Context(), liveLane, strings.Repeat("港", maxQueryRunes), 0, "")
	require.NoError(t, err)
	_, _, err = s.search(t.Context(), liveLane, strings.Repeat("港湾 ", maxQueryWords), 0, "")
	require.NoError(t, err)
}

func TestIndicatorsAreFoundInEveryForm(t *testing.T) {
	s := newStore(t)
	hash := strings.Repeat("ab12", 16)
	add := func(sequence uint64, title string, change func(*pb.Report), observables ...stix.Observable) {
		_, r := sampleDelivery(t, liveLane, sequence, newID(t), title)
		if change != nil {
			change(r)
		}
		_, err := s.receive(t.Context(), liveLane, wrapped(t, sequence, r), r, nil, observables)
		require.NoError(t, err)
	}
	indicator := func(kind pb.IndicatorType, value string) func(*pb.Report) {
		return func(r *pb.Report) {
			r.AttackTechnical = &pb.AttackTechnical{Indicators: []*pb.Indicator{{Type: kind, Value: value}}}
		}
	}
	add(1, "listed", indicator(pb.IndicatorType_INDICATOR_TYPE_IPV4, "203.0.113.7"))
	add(2, "通信先は hxxps://c2[.]evil[.]example/gate.php でした", nil)
	add(3, "summary", func(r *pb.Report) { r.Summary = "宛先 203[.]0[.]113[.]7 と 2001:db8::7" })
	add(4, "technical", func(r *pb.Report) {
		r.AttackTechnical = &pb.AttackTechnical{Text: "検体 " + strings.ToUpper(hash) + " を確認"}
	})
	add(5, "bundle", nil, stix.Observable{Type: pb.IndicatorType_INDICATOR_TYPE_SHA256, Value: hash},
		stix.Observable{Type: pb.IndicatorType_INDICATOR_TYPE_FILE_NAME, Value: "Loader-X.dll"})
	add(6, "mail", indicator(pb.IndicatorType_INDICATOR_TYPE_EMAIL, "pay@mail.evil.example"))
	add(7, "other", indicator(pb.IndicatorType_INDICATOR_TYPE_IPV4, "203.0.113.70"))

	for query, want := range map[string][]string{
		"203.0.113.7":                          {"other", "summary", "listed"}, // 203.0.113.70 by its text
		"203[.]0[.]113[.]7":                    {"other", "summary", "listed"},
		"203(.)0(.)113(.)7":                    {"other", "summary", "listed"},
		"２０３．０．１１３．７":                          {"other", "summary", "listed"},
		" 203.0.113.7 ":                        {"other", "summary", "listed"},
		"203.0.113.70":                         {"other"},
		"2001:DB8:0::7":                        {"summary"},
		"2001:db8::7":                          {"summary"},
		"c2[.]evil[.]example":                  {"通信先は hxxps://c2[.]evil[.]example/gate.php でした"},
		"C2.EVIL.EXAMPLE":                      {"通信先は hxxps://c2[.]evil[.]example/gate.php でした"},
		"hxxps://c2[.]evil[.]example/gate.php": {"通信先は hxxps://c2[.]evil[.]example/gate.php でした"},
		"https://c2.evil.example/gate.php":     {"通信先は hxxps://c2[.]evil[.]example/gate.php でした"},
		"pay[at]mail[.]evil[.]example":         {"mail"},
		"mail.evil.example":                    {"mail"},
		hash:                                   {"bundle", "technical"},
		strings.ToUpper(hash):                  {"bundle", "technical"},
		"loader-x.dll":                         {"bundle"},
		"ab12ab12":                             {"technical"},
		"198.51.100.1":                         {},
		"unknown[.]example":                    {},
	} {
		require.Equal(t, want, titles(t, s, query), "query %q", query)
	}
}

func TestSearchPagesNewestFirst(t *testing.T) {
	s := newStore(t)
	var want []string
	for i := range 7 {
		title := fmt.Sprintf("港 203.0.113.7 %d", i)
		receiveTitle(t, s, i+1, title)
		want = append([]string{title}, want...)
	}
	for _, query := range []string{"港", "203.0.113.7", "203[.]0.113.7", ""} {
		var got []string
		for token, page := "", 0; page == 0 || token != ""; page++ {
			items, next, err := s.search(t.Context(), liveLane, query, 3, token)
			require.NoError(t, err)
			require.LessOrEqual(t, len(items), 3)
			for _, item := range items {
				got = append(got, item.GetTitle())
			}
			token = next
		}
		require.Equal(t, want, got, query)
	}
	_, _, err := s.search(t.Context(), liveLane, "港", 3, "x")
	requireBilingual(t, err, errInvalid)
}

func TestLargestReportIsIndexed(t *testing.T) {
	s := newStore(t)
	_, r := sampleDelivery(t, liveLane, 1, newID(t), "大")
	var b strings.Builder
	for b.Len() < 900_000 {
		b.WriteRune(rune(0x4e00 + rand.IntN(150)))
	}
	r.Summary = b.String()
	r.AttackTechnical = &pb.AttackTechnical{}
	for i := range 5000 {
		r.AttackTechnical.Indicators = append(r.AttackTechnical.Indicators, &pb.Indicator{Value: fmt.Sprintf("198.51.%d.%d", i/250, i%250)})
	}
	start := time.Now()
	_, err := s.receive(t.Context(), liveLane, wrapped(t, 1, r), r, nil, nil)
	require.NoError(t, err)
	t.Logf("a report of %d bytes took %v", proto.Size(r), time.Since(start))
	runes := []rune(r.GetSummary())
	require.Len(t, titles(t, s, string(runes[len(runes)-12:])), 1)
	require.Len(t, titles(t, s, "198.51.19.249"), 1)
}
