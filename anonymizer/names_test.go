package anonymizer_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/text/unicode/norm"
	"golang.org/x/text/width"
	"pgregory.net/rapid"

	"minato.example/anonymizer"
	pb "minato.example/proto/minato/v1"
)

func source() (*pb.Profile, *pb.Member) {
	return &pb.Profile{
		Organisation: "博多東埠頭ターミナル運営株式会社",
		Place:        &pb.Place{Port: "博多港", Terminal: "東埠頭 第7バース"},
		Desks: []*pb.Desk{
			{Name: "CSIRT", Contacts: []*pb.Contact{
				{Name: "山田 太郎", Phone: "092-555-0134", Mail: "csirt@hhft-terminal.example.jp"},
				{Name: "情報システム部", Phone: "+81 92 555 0199", Mail: "hakata@gmail.com"},
			}},
			{Name: "運用第二班"},
		},
		Persons: []*pb.Person{{Id: "sato", Name: "佐藤　花子"}, {Id: "x", Name: "王"}},
	}, &pb.Member{Id: "terminal-a", Name: "Hakata Higashi Futo Terminal Operations K.K."}
}

func TestNamesAreAllThatTheSourceIsKnownBy(t *testing.T) {
	require.Equal(t, []string{
		"Hakata Higashi Futo Terminal Operations K.K.", "Hakata Higashi Futo Terminal Operations",
		"博多東埠頭ターミナル運営株式会社", "博多東埠頭ターミナル運営", "東埠頭 第7バース",
		"山田 太郎", "山田", "太郎", "092-555-0134", "925550134", "csirt@hhft-terminal.example.jp", "hhft-terminal.example.jp",
		"+81 92 555 0199", "hakata@gmail.com", "運用第二班", "佐藤　花子", "佐藤", "花子", "王", "@terminal-a",
	}, anonymizer.Names(source()))
	require.Empty(t, anonymizer.Names(nil, nil))
}

func TestTheLegalFormIsNoPartOfAName(t *testing.T) {
	for name, bare := range map[string]string{
		"株式会社みなと": "みなと", "みなと(株)": "みなと", "㈱みなと": "みなと", "（有）みなと": "みなと", "有限会社 みなと": "みなと",
		"Minato Co., Ltd.": "Minato", "MINATO CO.,LTD.": "MINATO", "Minato Inc.": "Minato", "Minato Corporation": "Minato",
		"ミナト Ｃｏ．，Ｌｔｄ．": "ミナト",
	} {
		require.Equal(t, []string{name, bare}, anonymizer.Names(nil, &pb.Member{Name: name}))
	}
	for _, whole := range []string{"Zinc", "株式会社", "Inc.", "株主会"} {
		require.Equal(t, []string{whole}, anonymizer.Names(nil, &pb.Member{Name: whole}), "nothing would be left, or it is no legal form")
	}
}

func TestANameIsFoundHoweverItIsWritten(t *testing.T) {
	names := anonymizer.Names(source())
	for _, text := range []string{
		"博多東埠頭ターミナル運営の端末から発信", "博多東埠頭ﾀｰﾐﾅﾙ運営", "博多 東埠頭\nターミナル 運営", "博多\u200b東埠頭\u2060ターミナル\ufeff運営",
		"東埠頭第７バース", "担当は山田です", "ＣＳＩＲＴ＠ＨＨＦＴ-terminal.example.jp", "csirt[@]hhft-terminal[.]example[.]jp",
		"0925550134", "(092) 555 0134", "+81-92-555-0134", "０９２－５５５－０１３４", "HAKATA HIGASHI FUTO TERMINAL OPERATIONS", "hakata-higashi-futo-terminal-operations",
		"佐藤花子", "tos.hhft-terminal[.]example.jp",
	} {
		_, found := anonymizer.FindText(text, names)
		require.True(t, found, text)
	}
	for _, text := range []string{"", "博多港の別の埠頭", "CSIRT", "情報システム部", "王", "198.51.100.23", "TOS サーバーで検知", "x@gmail.com"} {
		name, found := anonymizer.FindText(text, names)
		require.False(t, found, "%s: %s", text, name)
	}
}

func TestAShortLatinNameIsAWordOfItsOwn(t *testing.T) {
	for text, found := range map[string]bool{
		"component": false, "ONE": true, "the ONE line": true, "one-way": true, "ｏｎｅ。": true, "O N E": false, "phone": false, "ONEの端末": true,
		"o\u200bne": true, "everyone": false, "one1": false, "bone ONE": true, "": false,
	} {
		_, ok := anonymizer.FindText(text, []string{"ONE"})
		require.Equal(t, found, ok, text)
	}
	_, ok := anonymizer.FindText("from M.O.L today", []string{"M.O.L"})
	require.True(t, ok)
	_, ok = anonymizer.FindText("from MOL today", []string{"M.O.L"})
	require.True(t, ok)
	_, ok = anonymizer.FindText("maerskline.example", []string{"Maersk"})
	require.True(t, ok, "a longer name is found inside of a word")
	for _, tiny := range []string{"", "港", "x", " \u200b", "・"} {
		_, ok := anonymizer.FindText("港 x ・", []string{tiny})
		require.False(t, ok, "%q", tiny)
	}
}

func TestFindNamesTheFieldsOfTheReport(t *testing.T) {
	r := &pb.Report{
		Title:          "東埠頭 第7バースで感染",
		AttackTimeline: []*pb.TimelineEntry{{Text: "侵入"}, {Text: "山田が検知"}},
		AttackTechnical: &pb.AttackTechnical{
			Tools: []string{"psexec", "博多東埠頭ターミナル運営のVPN"}, Ransom: &pb.Ransom{Note: "csirt@hhft-terminal.example.jp"},
			StixBundle: &pb.Part{Digest: []byte("山田"), Name: "山田.json"},
		},
	}
	require.Equal(t, []anonymizer.Found{
		{Field: "title", Name: "東埠頭 第7バース"},
		{Field: "attack_technical.tools[1]", Name: "博多東埠頭ターミナル運営"},
		{Field: "attack_technical.ransom.note", Name: "csirt@hhft-terminal.example.jp"},
		{Field: "attack_technical.stix_bundle.name", Name: "山田"},
		{Field: "attack_timeline[1].text", Name: "山田"},
	}, anonymizer.Find(r, anonymizer.Names(source())))
	require.Empty(t, anonymizer.Find(r, nil))
	require.Empty(t, anonymizer.Find(&pb.Report{}, anonymizer.Names(source())))
}

// Find reaches every text field that the contract has.
func TestFindLooksIntoEveryText(t *testing.T) {
	r := full()
	b := anonymizer.Find(r, []string{"<"})
	require.Empty(t, b, "a sign is no name")
	var missing []string
	for _, path := range texts(t, &anonymizer.Projected{Report: r}) {
		if len(path) > 9 && path[:9] == "attached " {
			continue
		}
		if len(anonymizer.Find(r, []string{canary(path)})) == 0 {
			missing = append(missing, path)
		}
	}
	require.Empty(t, missing)
}

func TestWidthAndFormMakeNoDifference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringMatching(`[a-zA-Zァ-ヶ一-龠]{5,12}`).Draw(t, "name")
		before := rapid.StringMatching(`[ -/ぁ-ん]{0,5}`).Draw(t, "before")
		as := rapid.SampledFrom([]func(string) string{
			width.Widen.String, width.Narrow.String, norm.NFD.String, norm.NFKD.String, norm.NFKC.String,
		}).Draw(t, "as")
		_, found := anonymizer.FindText(before+as(name)+before, []string{name})
		require.True(t, found, "%q in %q", name, as(name))
	})
}

// Members know each other by their ids.
func TestTheIdOfTheSourceIsFoundAsAWordOfItsOwn(t *testing.T) {
	names := anonymizer.Names(nil, &pb.Member{Id: "terminal-a"})
	for _, text := range []string{"terminal-a から発信", "TERMINAL-A", "端末はterminal-aです", "host.terminal-a.example", "ｔｅｒｍｉｎａｌ－ａ", "termi\u200bnal-a", "terminala"} {
		name, found := anonymizer.FindText(text, names)
		require.True(t, found, text)
		require.Equal(t, "terminal-a", name)
	}
	for _, text := range []string{"terminal-ab", "xterminal-a", "terminal-b", "the terminal", "termi nala"} {
		_, found := anonymizer.FindText(text, names)
		require.False(t, found, text)
	}
	require.Equal(t, []anonymizer.Found{{Field: "title", Name: "terminal-a"}}, anonymizer.Find(&pb.Report{Title: "terminal-a の件"}, names))
	require.Empty(t, anonymizer.Names(nil, &pb.Member{Id: "tcb"}), "three letters are too common")
	for _, text := range []string{"in the import list", "airports", "export"} {
		_, found := anonymizer.FindText(text, anonymizer.Names(nil, &pb.Member{Id: "port"}))
		require.False(t, found, text)
	}
}
