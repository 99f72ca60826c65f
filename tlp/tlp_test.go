package tlp_test

import (
	"errors"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	pb "minato.example/proto/minato/v1"
	"minato.example/tlp"
)

var everyLabel = []tlp.Label{tlp.Clear, tlp.Green, tlp.Amber, tlp.AmberStrict, tlp.Red}

// audience is the protocol as a table: a reader may see a report if any fact
// that holds about the reader has an x in the label's column. The first row
// holds about everybody.
const audience = `
                    none  CLEAR  GREEN  AMBER  AMBER+STRICT  RED  other
anybody              .      x      .      .         .         .     .
Member               .      x      .      .         .         .     .
InCommunity          .      x      x      .         .         .     .
Addressed            .      x      .      x         x         .     .
ClientOfAddressed    .      x      .      x         .         .     .
NamedPerson          .      x      .      x         x         x     .
Origin               .      x      x      x         x         x     .
`

func TestAudienceIsExactlyTheTable(t *testing.T) {
	facts := map[string]tlp.Relation{
		"anybody": 0, "Member": tlp.Member, "InCommunity": tlp.InCommunity, "Addressed": tlp.Addressed,
		"ClientOfAddressed": tlp.ClientOfAddressed, "NamedPerson": tlp.NamedPerson, "Origin": tlp.Origin,
	}
	columns := []tlp.Label{tlp.Unlabelled, tlp.Clear, tlp.Green, tlp.Amber, tlp.AmberStrict, tlp.Red, tlp.Red + 1}
	rows := strings.Split(strings.TrimSpace(audience), "\n")[1:]
	require.Len(t, rows, len(facts))

	permitted := map[tlp.Label]int{}
	for reader := tlp.Relation(0); reader < 64; reader++ {
		for i, label := range columns {
			want := false
			for _, row := range rows {
				cells := strings.Fields(row)
				fact, known := facts[cells[0]]
				require.True(t, known, cells[0])
				holds := reader&fact == fact
				want = want || holds && cells[1+i] == "x"
			}
			require.Equal(t, want, tlp.Permits(label, reader), "label %d, reader %06b", label, reader)
			if want {
				permitted[label]++
			}
		}
	}
	// The counts say the same a third time, so that a slip in the table shows.
	require.Equal(t, map[tlp.Label]int{tlp.Clear: 64, tlp.Green: 48, tlp.Amber: 60, tlp.AmberStrict: 56, tlp.Red: 48}, permitted)
}

// The order of the labels is an order of audiences only where recipients, their
// clients and named persons belong to the community: an addressed organisation
// outside it may read AMBER but not GREEN. A hub refuses such a report before
// it is planned, and so the property is stated over the relations that remain.
func TestStricterNeverSharesMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := tlp.Relation(rapid.IntRange(0, 63).Draw(t, "relation"))
		if r&(tlp.Addressed|tlp.ClientOfAddressed|tlp.NamedPerson) != 0 {
			r |= tlp.InCommunity
		}
		wide := rapid.SampledFrom(everyLabel).Draw(t, "wide")
		strict := tlp.Strictest(wide, rapid.SampledFrom(everyLabel).Draw(t, "other"))
		if tlp.Permits(strict, r) {
			require.True(t, tlp.Permits(wide, r), "%s shares with %06b, %s does not", strict, r, wide)
		}
	})
}

func TestUnknownAndZeroLabelsPermitNobody(t *testing.T) {
	for l := range 256 {
		label := tlp.Label(l)
		if label.Valid() {
			continue
		}
		require.Empty(t, label.String())
		for r := range 256 {
			require.False(t, tlp.Permits(label, tlp.Relation(r)))
		}
	}
}

func TestOriginReadsItsOwnReportUnderEveryLabel(t *testing.T) {
	for _, l := range everyLabel {
		require.True(t, tlp.Permits(l, tlp.Origin))
	}
}

func TestParseReadsWhatStringWrites(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := rapid.SampledFrom(everyLabel).Draw(t, "label")
		text := l.String()
		if rapid.Bool().Draw(t, "without prefix") {
			text = strings.TrimPrefix(text, "TLP:")
		}
		var mixed strings.Builder
		for _, r := range text {
			if rapid.Bool().Draw(t, "lower") {
				r = unicode.ToLower(r)
			}
			mixed.WriteRune(r)
		}
		space := rapid.SampledFrom([]string{"", " ", "\t", "\n", "　", " \r\n"})
		got, legacy, err := tlp.Parse(space.Draw(t, "before") + mixed.String() + space.Draw(t, "after"))
		require.NoError(t, err)
		require.False(t, legacy)
		require.Equal(t, l, got)
	})
}

func TestWhiteIsReadAsClearAndSaysSo(t *testing.T) {
	for _, text := range []string{"TLP:WHITE", "white", " Tlp:White\n"} {
		l, legacy, err := tlp.Parse(text)
		require.NoError(t, err)
		require.True(t, legacy)
		require.Equal(t, tlp.Clear, l)
	}
}

func TestStrictestIsAJoin(t *testing.T) {
	anyLabel := rapid.Custom(func(t *rapid.T) tlp.Label { return tlp.Label(rapid.IntRange(0, 7).Draw(t, "label")) })
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := anyLabel.Draw(t, "a"), anyLabel.Draw(t, "b"), anyLabel.Draw(t, "c")
		require.Equal(t, tlp.Strictest(a, b), tlp.Strictest(b, a))
		require.Equal(t, tlp.Strictest(a, b, c), tlp.Strictest(a, tlp.Strictest(b, c)))
		require.Equal(t, tlp.Strictest(a, b, c), tlp.Strictest(tlp.Strictest(a, b), c))
		require.Equal(t, tlp.Strictest(a), tlp.Strictest(a, a))
		if a.Valid() {
			require.Equal(t, a, tlp.Strictest(a))
		} else {
			require.Equal(t, tlp.Unlabelled, tlp.Strictest(a, b))
		}
	})
	require.Equal(t, tlp.Unlabelled, tlp.Strictest())
}

func TestNeedsFollowTheLabel(t *testing.T) {
	type needs struct{ community, recipients, persons bool }
	want := map[tlp.Label]needs{
		tlp.Unlabelled: {}, tlp.Clear: {}, tlp.Green: {community: true}, tlp.Amber: {recipients: true},
		tlp.AmberStrict: {recipients: true}, tlp.Red: {recipients: true, persons: true}, tlp.Red + 1: {},
	}
	for l, w := range want {
		require.Equal(t, w, needs{l.NeedsCommunity(), l.NeedsRecipients(), l.NeedsPersons()}, "label %d", l)
	}
}

func TestNumbersEqualTheContract(t *testing.T) {
	for number, name := range pb.TlpLabel_name {
		want := strings.TrimPrefix(name, "TLP_LABEL_")
		got := strings.ReplaceAll(strings.TrimPrefix(tlp.Label(number).String(), "TLP:"), "+", "_")
		if number == 0 {
			want = ""
		}
		require.Equal(t, want, got)
	}
	require.Len(t, pb.TlpLabel_name, len(everyLabel)+1)
}

func TestRefusalsSayWhatToWrite(t *testing.T) {
	for input, suggestion := range map[string]string{
		"AMBER STRICT":       "TLP:AMBER+STRICT",
		"TLP:AMBER STRICT":   "TLP:AMBER+STRICT",
		"AMBER-STRICT":       "TLP:AMBER+STRICT",
		"TLP:AMBER_STRICT":   "TLP:AMBER+STRICT",
		"TLP:AMBER + STRICT": "TLP:AMBER+STRICT",
		"AMBERSTRICT":        "TLP:AMBER+STRICT",
		"TLP AMBER":          "TLP:AMBER",
		"TLP: RED":           "TLP:RED",
		"TLP-RED":            "TLP:RED",
		"TLPRED":             "TLP:RED",
		"TLP::RED":           "TLP:RED",
		"ORANGE":             "TLP:AMBER",
		"tlp:yellow":         "TLP:AMBER",
		"ＴＬＰ：ＲＥＤ":            "TLP:RED",
		"ＡＭＢＥＲ＋ＳＴＲＩＣＴ":       "TLP:AMBER+STRICT",
		"TLP:AMBER+ſTRICT":   "TLP:AMBER+STRICT",
		"TLP:RE\u200bD":      "TLP:RED",
		"赤":                  "TLP:RED",
		"UNCLEAR":            "",
		"TLP:UNCLEAR":        "",
		"TLP:BLACK":          "",
		"TLP:RED/AMBER":      "",
		"TLP:":               "",
		"CLEAR RED":          "",
		"TLP:TLP:RED":        "",
		"TLP:ＲED\u202e":      "TLP:RED",
		"極秘":                 "",
	} {
		l, legacy, err := tlp.Parse(input)
		require.Equal(t, tlp.Unlabelled, l, input)
		require.False(t, legacy, input)
		var refusal *tlp.ParseError
		require.ErrorAs(t, err, &refusal, input)
		require.Equal(t, suggestion, refusal.Suggestion, input)
		if suggestion == "" {
			suggestion = "TLP:AMBER+STRICT or TLP:RED"
			require.Contains(t, refusal.Japanese(), "TLP:AMBER+STRICT、TLP:RED")
		} else {
			require.Contains(t, refusal.Japanese(), suggestion)
		}
		require.Contains(t, refusal.Error(), suggestion)
	}
}

func TestMissingLabelIsCalledMissing(t *testing.T) {
	for _, input := range []string{"", "  ", "　\n", "\u200b", "\x00"} {
		_, _, err := tlp.Parse(input)
		require.ErrorContains(t, err, "missing")
		for _, l := range everyLabel {
			require.ErrorContains(t, err, l.String())
			require.Contains(t, japanese(t, err), l.String())
		}
	}
}

func TestMessagesAreShortAndClean(t *testing.T) {
	for _, input := range []string{
		strings.Repeat("極", 1<<20),
		"\x1b[31mRED\x07\u202e\u2066\u200f\x00",
		strings.Repeat("\u202e", 1<<16) + "RED!",
		"\xff\xfe" + strings.Repeat("a", 500),
	} {
		_, _, err := tlp.Parse(input)
		require.Error(t, err)
		for _, message := range []string{err.Error(), japanese(t, err)} {
			require.LessOrEqual(t, utf8.RuneCountInString(message), 250)
			for _, r := range message {
				require.True(t, unicode.IsPrint(r), "%q in %q", r, message)
			}
		}
		var refusal *tlp.ParseError
		require.ErrorAs(t, err, &refusal)
		require.LessOrEqual(t, utf8.RuneCountInString(refusal.Input), 40)
	}
}

func TestEveryMeaningIsOneSentenceInBothLanguages(t *testing.T) {
	seen := map[string]bool{}
	for _, l := range append([]tlp.Label{tlp.Unlabelled}, everyLabel...) {
		ja, en := l.Meaning()
		require.Equal(t, 1, strings.Count(ja, "。"))
		require.True(t, strings.HasSuffix(ja, "。"))
		require.Equal(t, 1, strings.Count(en, "."))
		require.True(t, strings.HasSuffix(en, "."))
		require.False(t, seen[ja] || seen[en])
		seen[ja], seen[en] = true, true
	}
}

func japanese(t *testing.T, err error) string {
	t.Helper()
	var people interface{ Japanese() string }
	require.True(t, errors.As(err, &people))
	return people.Japanese()
}

// FuzzParse holds Parse against the forms spelled out byte by byte.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"TLP:RED", "amber+strict", " white ", "TLP:AMBER STRICT", "ＲＥＤ", "TLP:AMBER+ſTRICT", "", "\u212a", "TLP:clear\x00"} {
		f.Add(seed)
	}
	exact := map[string]tlp.Label{
		"clear": tlp.Clear, "white": tlp.Clear, "green": tlp.Green, "amber": tlp.Amber, "amber+strict": tlp.AmberStrict, "red": tlp.Red,
	}
	f.Fuzz(func(t *testing.T, s string) {
		ascii := strings.Map(func(r rune) rune {
			if 'A' <= r && r <= 'Z' {
				return r + 0x20
			}
			return r
		}, strings.TrimSpace(s))
		want, known := exact[strings.TrimPrefix(ascii, "tlp:")]
		got, legacy, err := tlp.Parse(s)
		require.Equal(t, known, err == nil)
		require.Equal(t, want, got)
		require.Equal(t, known && strings.HasSuffix(ascii, "white"), legacy)
		if err != nil {
			require.LessOrEqual(t, utf8.RuneCountInString(err.Error()), 250)
			require.NotEmpty(t, japanese(t, err))
		}
	})
}
