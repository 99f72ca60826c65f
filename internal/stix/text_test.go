package stix_test

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/publicsuffix"
	"pgregory.net/rapid"

	"minato.example/internal/stix"
	pb "minato.example/proto/minato/v1"
)

const (
	ipv4   = pb.IndicatorType_INDICATOR_TYPE_IPV4
	ipv6   = pb.IndicatorType_INDICATOR_TYPE_IPV6
	domain = pb.IndicatorType_INDICATOR_TYPE_DOMAIN
	link   = pb.IndicatorType_INDICATOR_TYPE_URL
	email  = pb.IndicatorType_INDICATOR_TYPE_EMAIL
	md5    = pb.IndicatorType_INDICATOR_TYPE_MD5
	sha1   = pb.IndicatorType_INDICATOR_TYPE_SHA1
	sha256 = pb.IndicatorType_INDICATOR_TYPE_SHA256
	file   = pb.IndicatorType_INDICATOR_TYPE_FILE_NAME
)

const (
	anMD5    = "d41d8cd98f00b204e9800998ecf8427e"
	aSHA1    = "da39a3ee5e6b4b0d3255bfef95601890afd80709"
	aSHA256  = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	longPath = "http://evil.example/"
)

func TestNormalizeGivesOneFormToEverySpelling(t *testing.T) {
	for spelling, want := range map[string]stix.Observable{
		"192.0.2.1":                         {ipv4, "192.0.2.1"},
		" 192[.]0[.]2[.]1 ":                 {ipv4, "192.0.2.1"},
		"192.0.2(.)1":                       {ipv4, "192.0.2.1"},
		"１９２．０．２．１":                         {ipv4, "192.0.2.1"},
		"192。0。2。1":                         {ipv4, "192.0.2.1"},
		"2001:0DB8:0:0::1":                  {ipv6, "2001:db8::1"},
		"2001[:]db8[:][:]1":                 {ipv6, "2001:db8::1"},
		"::ffff:192.0.2.1":                  {ipv6, "::ffff:192.0.2.1"},
		"Evil.Example.":                     {domain, "evil.example"},
		"evil[.]example":                    {domain, "evil.example"},
		"evil[[.]]example":                  {domain, "evil.example"},
		"evil{.}example":                    {domain, "evil.example"},
		"evil[dot]example":                  {domain, "evil.example"},
		"evil (DOT) example":                {domain, "evil.example"},
		"ev\u200bil\u00ad.exam\ufeffple":    {domain, "evil.example"},
		"ＥＶＩＬ．ｅｘａｍｐｌｅ":                      {domain, "evil.example"},
		"evil。example":                      {domain, "evil.example"},
		"\u212aelvin.example":               {domain, "kelvin.example"},
		"_dmarc.evil.example":               {domain, "_dmarc.evil.example"},
		"例え.テスト":                            {domain, "xn--r8jz45g.xn--zckzah"},
		"Bücher.example":                    {domain, "xn--bcher-kva.example"},
		"xn--bcher-kva.example":             {domain, "xn--bcher-kva.example"},
		"pack.zip":                          {domain, "pack.zip"},
		"HXXPS://Evil.Example/A%2fB?q=[.]x": {link, "https://evil.example/A%2fB?q=.x"},
		"hxxp[://]evil[.]example/a(.)b":     {link, "http://evil.example/a(.)b"},
		"hxxp[:]//evil[.]example":           {link, "http://evil.example"},
		"http://user:Pw@Evil.example.:8080": {link, "http://user:Pw@evil.example:8080"},
		"http://[2001:DB8::0:1]:80/":        {link, "http://[2001:db8::1]:80/"},
		"https://例え.jp/港?q=ﾃｽﾄ":             {link, "https://xn--r8jz45g.jp/港?q=ﾃｽﾄ"},
		"ｈｔｔｐ：／／ｅｖｉｌ．ｅｘａｍｐｌｅ／Ａ":       {link, "http://evil.example/A"},
		"http://tos-server/login.php": {link, "http://tos-server/login.php"},
		"A.User@Evil.Example":         {email, "A.User@evil.example"},
		"a.user[@]evil[.]example":     {email, "a.user@evil.example"},
		"a [at] evil [dot] example":   {email, "a@evil.example"},
		strings.ToUpper(anMD5):        {md5, anMD5},
		aSHA1:                         {sha1, aSHA1},
		aSHA256:                       {sha256, aSHA256},
	} {
		got, ok := stix.Normalize(spelling)
		require.True(t, ok, spelling)
		require.Equal(t, want, got, spelling)
	}
}

func TestNormalizeRefusesWhatIsNoIndicator(t *testing.T) {
	for _, s := range []string{
		"", " ", "word", "1.2.3", "1.2.3.4.5", "v1.2.3", "192.0.2.256", "192.0.2.01", "192.0.2.0/24", "192.0.2.1:443",
		"update.exe", "報告書.pdf", "Invoice.DOCX", "a..example", "-a.example", "e.g", "これは。テストです", "evil.comです",
		"fe80::1%eth0", "http://", "http:///path", "http://a b/", "http://evil.example:99999/", "http://a@b@c.example/",
		"1http://evil.example", "a@b@c.example", "@evil.example", "a@", ".a@evil.example", "a@192.0.2.1",
		anMD5 + "0", "evil.example evil.example", "evil.example\nx", "\xffevil.example",
		strings.Repeat("a", 64) + ".example", strings.Repeat("a.", 130) + "example",
		longPath + strings.Repeat("a", 2048),
	} {
		got, ok := stix.Normalize(s)
		require.False(t, ok, "%q gave %v", s, got)
	}
}

// defanged writes a value in one of the styles of the field.
func defanged(style string, o stix.Observable) string {
	v := o.Value
	host := func(old, new string) string {
		// Paths are kept byte for byte, so only the host may be rewritten.
		if o.Type != link {
			return strings.ReplaceAll(v, old, new)
		}
		scheme, after, _ := strings.Cut(v, "://")
		place, rest, slash := strings.Cut(after, "/")
		v := scheme + "://" + strings.ReplaceAll(place, old, new)
		if slash {
			v += "/" + rest
		}
		return v
	}
	switch style {
	case "[.]", "(.)", "{.}", "[dot]", "(dot)", "{dot}", "(DOT)", " [dot] ", "[[.]]", "．", "․":
		return host(".", style)
	case "[:]":
		return strings.ReplaceAll(v, ":", "[:]")
	case "[://]":
		return strings.ReplaceAll(v, "://", "[://]")
	case "[@]", "(at)", "{at}", " [at] ", "＠":
		return strings.ReplaceAll(v, "@", style)
	case "hxxp":
		return strings.Replace(v, "http", "hXXp", 1)
	case "full width":
		return strings.Map(func(r rune) rune {
			if '!' <= r && r <= '~' {
				return r - '!' + '！'
			}
			return r
		}, v)
	case "zero width":
		return strings.Join(strings.Split(v, ""), "\u200b")
	case "upper host":
		if o.Type == link || o.Type == email {
			return v
		}
		return strings.ToUpper(v)
	}
	panic(style)
}

var styles = []string{"[.]", "(.)", "{.}", "[dot]", "(dot)", "{dot}", "(DOT)", " [dot] ", "[[.]]", "．", "․", "[:]", "[://]", "[@]", "(at)", "{at}", " [at] ", "＠", "hxxp", "full width", "zero width", "upper host"}

func anObservable() *rapid.Generator[stix.Observable] {
	name := rapid.StringMatching(`[a-z]([a-z0-9-]{0,8}[a-z0-9])?(\.[a-z0-9]{1,6}){0,2}\.(example|jp|com|test)`)
	return rapid.Custom(func(t *rapid.T) stix.Observable {
		switch rapid.IntRange(0, 5).Draw(t, "kind") {
		case 0:
			return stix.Observable{Type: ipv4, Value: rapid.StringMatching(`(192\.0\.2|198\.51\.100)\.(0|[1-9][0-9]?)`).Draw(t, "ipv4")}
		case 1:
			return stix.Observable{Type: ipv6, Value: rapid.StringMatching(`2001:db8(:[1-9a-f][0-9a-f]{0,3}){6}`).Draw(t, "ipv6")}
		case 2:
			return stix.Observable{Type: domain, Value: name.Draw(t, "domain")}
		case 3:
			return stix.Observable{Type: link, Value: rapid.StringMatching(`https?`).Draw(t, "scheme") + "://" + name.Draw(t, "host") + rapid.StringMatching(`(:[1-9][0-9]{0,3})?(/[A-Za-z0-9%._~-]{0,9})?(\?[a-z]=[0-9])?`).Draw(t, "rest")}
		case 4:
			return stix.Observable{Type: email, Value: rapid.StringMatching(`[A-Za-z0-9]{1,9}(\.[a-z]{1,5})?`).Draw(t, "local") + "@" + name.Draw(t, "domain")}
		}
		n := rapid.SampledFrom([]int{32, 40, 64}).Draw(t, "digits")
		kind := map[int]pb.IndicatorType{32: md5, 40: sha1, 64: sha256}[n]
		return stix.Observable{Type: kind, Value: rapid.StringOfN(rapid.SampledFrom([]rune("0123456789abcdef")), n, n, n).Draw(t, "hash")}
	})
}

func TestEveryStyleOfDefangingIsUndone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := anObservable().Draw(t, "observable")
		written := defanged(rapid.SampledFrom(styles).Draw(t, "style"), o)
		got, ok := stix.Normalize(written)
		require.True(t, ok, written)
		require.Equal(t, o, got, written)
	})
}

func TestDefangedValuesAreFoundInJapaneseText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := anObservable().Draw(t, "observable")
		if o.Type == link {
			o.Value = strings.TrimRight(o.Value, ".") // ends the sentence in running text
		}
		style := rapid.SampledFrom(styles).Draw(t, "style")
		if o.Type == link && style == "full width" || o.Type == ipv6 && style == "full width" {
			style = "zero width"
		}
		written := defanged(style, o)
		text := rapid.SampledFrom([]string{"攻撃元は", "通信先「", "通信先：", "- ", "（", "値=", "", "不審な通信を確認した。"}).Draw(t, "before") +
			written + rapid.SampledFrom([]string{"です。", "」を確認", "、ほか", "\n", "）", "", "。次に", "へ接続"}).Draw(t, "after")
		require.Contains(t, stix.Observables(text), o, text)
	})
}

func TestObservablesOfRunningText(t *testing.T) {
	for text, want := range map[string][]stix.Observable{
		"通信先はevil.exampleです。update.exeを実行し、version 1.2.3を装う。":     {{domain, "evil.example"}},
		"evil[.]example/evil2[.]example と hxxp://evil.example/a":  {{domain, "evil.example"}, {link, "http://evil.example/a"}},
		"IP:192.0.2.1:443, IPv6:2001:db8::1、C2＝198.51.100.7。":     {{ipv4, "192.0.2.1"}, {ipv6, "2001:db8::1"}, {ipv4, "198.51.100.7"}},
		"IPアドレス：１９２．０．２．１、192.0.2.2":                              {{ipv4, "192.0.2.1"}, {ipv4, "192.0.2.2"}},
		"192.0.2.1-192.0.2.9 198.51.100.0/24 203.0.113.5/32":      {{ipv4, "192.0.2.1"}, {ipv4, "192.0.2.9"}, {ipv4, "203.0.113.5"}},
		"sha256:" + aSHA256 + " MD5=" + strings.ToUpper(anMD5):    {{sha256, aSHA256}, {md5, anMD5}},
		"mailto:A@evil.example、<b@evil.example>":                  {{email, "A@evil.example"}, {email, "b@evil.example"}},
		"(https://evil.example/a_(b)) [http://evil.example/x].":   {{link, "https://evil.example/a_(b)"}, {link, "http://evil.example/x"}},
		"http://a.example/x,http://b.example,http://c.example/":   {{link, "http://a.example/x"}, {link, "http://b.example"}, {link, "http://c.example/"}},
		"https://evil.exampleへ、https://例え.jp/a、https://evil.jp/港": {{link, "https://evil.example"}, {link, "https://xn--r8jz45g.jp/a"}, {link, "https://evil.jp/"}},
		"${jndi:ldap://192.0.2.1:1389/a}":                         {{link, "ldap://192.0.2.1:1389/a"}},
		"ヨドバシevil.example。second.example。":                        {{domain, "evil.example"}, {domain, "second.example"}},
		`C:\Users\a.user\evil.example /usr/lib/x.example`:         nil,
		`\\files.example\share README.md install.sh std::string`:  {{domain, "files.example"}},
		"install[.]sh 12:34:56 2026/04/01 a::b e.g. i.e. :: etc.": {{domain, "install.sh"}},
		"123e4567-e89b-12d3-a456-426614174000 " + anMD5 + "f":     nil,
		"evil.example EVIL.example evil[.]example":                {{domain, "evil.example"}},
		"::1 2001:db8:: fe80::1%eth0":                             {{ipv6, "::1"}, {ipv6, "2001:db8::"}},
		"user(at)evil(dot)example / user [at] evil [dot] example": {{email, "user@evil.example"}},
		"münchen.example аpple.example":                           {{domain, "xn--mnchen-3ya.example"}, {domain, "xn--pple-43d.example"}},
		"\xff\xfe evil.example \xc3(":                             {{domain, "evil.example"}},
	} {
		require.Equal(t, want, stix.Observables(text), text)
	}
}

func TestFileEndingsAgreeWithTheTopLevelDomains(t *testing.T) {
	// An ending in the list of files hides a whole top-level domain if it is one.
	for label := range strings.FieldsSeq("exe dll bat cfg class cs db gif inf ini iso js key lib log map msi obj old ole out pdf plist pot pst raw rb reg sql ts tar tif txt url vb wav xml yaml zip mov sh py so md bz one cc pl rs ps") {
		_, delegated := publicsuffix.PublicSuffix("name." + label)
		_, accepted := stix.Normalize("name." + label)
		if delegated {
			require.True(t, accepted, "%s is a top-level domain", label)
		}
	}
}

func TestHostileTextTakesLinearTime(t *testing.T) {
	const size = 4 << 20
	for name, unit := range map[string]string{
		"dots": "a.", "brackets": "[", "closing": "[.]]", "nested": "[[.", "schemes": "http://", "urls": "http://a.example/",
		"url list": "http://a.example/,", "long rest": longPath + strings.Repeat("b", 5000), "at": "a@", "colons": ":", "hex colons": "f:",
		"spaced": "a [dot] ", "slashes": "/", "parens": "http://a.example/((((", "bad hosts": "http://-a/", "ligature": "ﷺ", "zero width": "\u200b",
		"full width": "ａ．", "marks": "e\u0301", "addresses": "192.0.2.1,", "ideographs": "港", "puny": "xn--a.", "latin": "ü.ü",
	} {
		text := strings.Repeat(unit, size/len(unit))
		begin := time.Now()
		found := stix.Observables(text)
		// A quadratic step takes minutes; the bound leaves room for a slow machine
		// and the race detector.
		require.Less(t, time.Since(begin), 20*time.Second, name)
		require.LessOrEqual(t, len(found), size/len(unit)+1, name)
		_, ok := stix.Normalize(text)
		require.False(t, ok, name)
	}
}

func TestTheLargestPartIsSearchedInSeconds(t *testing.T) {
	begin := time.Now()
	require.Len(t, stix.Observables(strings.Repeat("通信先はevil[.]exampleです。", 16<<20/40)), 1)
	require.Less(t, time.Since(begin), 20*time.Second)
}

func FuzzNormalize(f *testing.F) {
	for _, s := range []string{"hxxp://a[.]example/[[.]]", "a(at)b[dot]example", "例え.jp", "2001[:]db8::1", "http://[::1]/", "http://x[:][//]y", "ａ．ｂｃ", "http://a.b/[[://]]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		o, ok := stix.Normalize(s)
		if !ok {
			require.Zero(t, o)
			return
		}
		requireNormal(t, o)
	})
}

func FuzzObservables(f *testing.F) {
	for _, s := range []string{"通信先はevil[.]exampleです", "http://a.example/,http://b.example", "a@b.example 192.0.2.1/32 ::1", "x://y(.)z/(.)http://q.example/", "https://例え.jp/a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		seen := map[stix.Observable]bool{}
		for _, o := range stix.Observables(s) {
			requireNormal(t, o)
			require.False(t, seen[o])
			seen[o] = true
		}
	})
}

// requireNormal demands a value that is its own normal form.
func requireNormal(t *testing.T, o stix.Observable) {
	t.Helper()
	require.NotEmpty(t, o.Value)
	require.LessOrEqual(t, len(o.Value), 2048)
	require.True(t, utf8.ValidString(o.Value))
	again, ok := stix.Normalize(o.Value)
	require.True(t, ok, "%q", o.Value)
	require.Equal(t, o, again)
}
