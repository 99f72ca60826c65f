package stix

import (
	"net/netip"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"

	pb "minato.example/proto/minato/v1"
)

// Normalize reads s as one indicator, plain or defanged, with space around it.
//
// Understood are hxxp and fxp, dots, colons, slashes and at signs in brackets
// ("[.]", "(dot)", "[:]", "[://]", "[at]", also " [dot] "), full-width and other
// compatibility forms, "。" as a dot between letters or digits, and zero-width
// characters, which are dropped.
//
// The normal forms are: addresses as net/netip writes them; hosts in lower case,
// without a trailing dot, international names in punycode (UTS 46); hashes in
// lower case; of a URL scheme and host as above and the rest byte for byte; of a
// mail address the domain as above and the local part as it stands.
// Normalizing a normal form changes nothing.
//
// A name is a domain if it has two labels or more, none longer than 63 of 253
// bytes, and its last label is two or more letters or begins with "xn--". Names
// that end like common files (update.exe, 港.pdf) are no domains, unless the
// ending is a top-level domain too (example.zip, example.sh). Version numbers
// fail because their last label is no word.
func Normalize(s string) (Observable, bool) {
	const longest = 4 * maxValue // defanged text is longer than what it means
	if s = strings.TrimSpace(s); s == "" || len(s) > longest {
		return Observable{}, false
	}
	s, ok := refangWhole(s)
	if !ok {
		return Observable{}, false
	}
	switch {
	case strings.Contains(s, "://"):
		return asURL(s)
	case strings.Contains(s, "@"):
		return asEmail(s)
	}
	if o, ok := asAddress(s); ok {
		return o, true
	}
	if o, ok := asHash(s); ok {
		return o, true
	}
	return asDomain(s)
}

func asAddress(s string) (Observable, bool) {
	const longest = len("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255")
	if len(s) > longest {
		return Observable{}, false
	}
	a, err := netip.ParseAddr(s)
	switch {
	case err != nil || a.Zone() != "":
		return Observable{}, false
	case a.Is4():
		return Observable{pb.IndicatorType_INDICATOR_TYPE_IPV4, a.String()}, true
	}
	return Observable{pb.IndicatorType_INDICATOR_TYPE_IPV6, a.String()}, true
}

func asHash(s string) (Observable, bool) {
	var kind pb.IndicatorType
	switch len(s) {
	case 32:
		kind = pb.IndicatorType_INDICATOR_TYPE_MD5
	case 40:
		kind = pb.IndicatorType_INDICATOR_TYPE_SHA1
	case 64:
		kind = pb.IndicatorType_INDICATOR_TYPE_SHA256
	default:
		return Observable{}, false
	}
	for i := range len(s) {
		if !isHex(s[i]) {
			return Observable{}, false
		}
	}
	return Observable{kind, strings.ToLower(s)}, true
}

func asDomain(s string) (Observable, bool) {
	host, ok := normalizeHost(s)
	if !ok || !isDomain(host) {
		return Observable{}, false
	}
	return Observable{pb.IndicatorType_INDICATOR_TYPE_DOMAIN, host}, true
}

func asEmail(s string) (Observable, bool) {
	local, domain, _ := strings.Cut(s, "@")
	if !isLocalPart(local) {
		return Observable{}, false
	}
	host, ok := normalizeHost(domain)
	if !ok || !isDomain(host) {
		return Observable{}, false
	}
	return Observable{pb.IndicatorType_INDICATOR_TYPE_EMAIL, local + "@" + host}, true
}

// isLocalPart reports whether s is a dot-atom of RFC 5322 of at most 64 bytes.
func isLocalPart(s string) bool {
	if s == "" || len(s) > 64 || s[0] == '.' || s[len(s)-1] == '.' || strings.Contains(s, "..") {
		return false
	}
	for i := range len(s) {
		if !isAlnum(s[i]) && !strings.ContainsRune("!#$%&'*+-/=?^_`{|}~.", rune(s[i])) {
			return false
		}
	}
	return true
}

// defangedSchemes are spellings of a scheme that keep a link from being followed.
var defangedSchemes = map[string]string{"hxxp": "http", "hxxps": "https", "fxp": "ftp", "fxps": "ftps"}

func asURL(s string) (Observable, bool) {
	scheme, after, _ := strings.Cut(s, "://")
	scheme = strings.ToLower(scheme)
	if plain, known := defangedSchemes[scheme]; known {
		scheme = plain
	}
	if !isScheme(scheme) {
		return Observable{}, false
	}
	end := strings.IndexAny(after, "/?#")
	if end < 0 {
		end = len(after)
	}
	place, ok := normalizeAuthority(after[:end])
	if !ok || !isRest(after[end:]) {
		return Observable{}, false
	}
	value := scheme + "://" + place + after[end:]
	if len(value) > maxValue {
		return Observable{}, false
	}
	return Observable{pb.IndicatorType_INDICATOR_TYPE_URL, value}, true
}

// isScheme checks the scheme of RFC 3986 section 3.1, at most 32 bytes.
func isScheme(s string) bool {
	if s == "" || len(s) > 32 || s[0] < 'a' || s[0] > 'z' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !(('a' <= c && c <= 'z') || isDigit(c) || c == '+' || c == '-' || c == '.') {
			return false
		}
	}
	return true
}

// isRest accepts path, query and fragment: anything that prints and that no
// writer leaves raw in a URL.
func isRest(s string) bool {
	for _, r := range s {
		if r == '<' || r == '>' || r == '"' || r == '`' || r == utf8.RuneError || !unicode.IsPrint(r) || r == ' ' {
			return false
		}
	}
	return true
}

// normalizeAuthority normalises the host of user@host:port and keeps the others.
// A single label is a host too: names inside an organisation have no dot.
func normalizeAuthority(s string) (string, bool) {
	var user, port string
	if at := strings.LastIndexByte(s, '@'); at >= 0 {
		user, s = s[:at+1], s[at+1:]
		for i := range len(user) - 1 {
			if c := user[i]; !isAlnum(c) && !strings.ContainsRune("-._~%!$&'()*+,;=:", rune(c)) {
				return "", false
			}
		}
	}
	if colon := strings.LastIndexByte(s, ':'); colon >= 0 && !strings.HasSuffix(s, "]") {
		s, port = s[:colon], s[colon:]
		if number, err := strconv.ParseUint(port[1:], 10, 16); err != nil || number == 0 {
			return "", false
		}
	}
	if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
		a, ok := asAddress(s[1 : len(s)-1])
		if !ok || a.Type != pb.IndicatorType_INDICATOR_TYPE_IPV6 {
			return "", false
		}
		return user + "[" + a.Value + "]" + port, true
	}
	host, ok := normalizeHost(s)
	return user + host + port, ok
}

// lookup maps an international name to punycode as browsers do before they look
// it up; what it lets through is checked again label by label.
var lookup = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.Transitional(false), idna.StrictDomainName(false))

// normalizeHost gives the normal form of a host name of one label or more.
func normalizeHost(s string) (string, bool) {
	const longest = 1024 // in UTF-8; 253 bytes of punycode do not hold more
	s = strings.TrimSuffix(s, ".")
	if s == "" || len(s) > longest {
		return "", false
	}
	if isASCII(s) {
		s = strings.ToLower(s)
	} else {
		// UTS 46 reads these as dots; here they end sentences.
		if strings.ContainsAny(s, "。｡") {
			return "", false
		}
		// "comです" is a word that ran into the host, not a top-level domain.
		if last := s[strings.LastIndexByte(s, '.')+1:]; last != s && !isASCII(last) && strings.ContainsFunc(last, isASCIIRune) {
			return "", false
		}
		var err error
		if s, err = lookup.ToASCII(s); err != nil {
			return "", false
		}
		s = strings.TrimSuffix(s, ".")
	}
	if s == "" || len(s) > 253 {
		return "", false
	}
	for label := range strings.SplitSeq(s, ".") {
		if !isLabel(label) {
			return "", false
		}
	}
	return s, true
}

// isLabel checks one lower-case label. Underscores are not for hosts, but the
// DNS has them and attackers use them.
func isLabel(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !(('a' <= c && c <= 'z') || isDigit(c) || c == '-' || c == '_') {
			return false
		}
	}
	return true
}

// isDomain tells a domain from a version number, a file name and a single word.
func isDomain(host string) bool {
	dot := strings.LastIndexByte(host, '.')
	last := host[dot+1:]
	if dot < 0 || len(last) < 2 || fileEndings[last] {
		return false
	}
	if strings.HasPrefix(last, "xn--") {
		return true
	}
	for i := range len(last) {
		if last[i] < 'a' || last[i] > 'z' {
			return false
		}
	}
	return true
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

func isASCIIRune(r rune) bool { return r < utf8.RuneSelf }

func words(s string) map[string]bool {
	set := make(map[string]bool)
	for word := range strings.FieldsSeq(s) {
		set[word] = true
	}
	return set
}

// fileEndings are endings of files that are no top-level domains.
var fileEndings = words(`
	asp aspx avi bak bat bin bmp cer cfg cfm cgi class cmd conf cpp cpl crt cs css csv
	dat db deb dll dmg doc docm docx drv dump elf eml evt evtx exe gif gz
	hpp hta htm html ico img inf ini iso jar jpeg jpg js json jsp jsx jtd kdbx key
	lib lnk log lzh mdb mkv msg msi msix msp obj ocx odp ods odt old ole out
	pcap pcapng pdb pdf pem pfx php pif plist png pot potx pps ppsx ppt pptm pptx pst pyc
	rar raw rb reg rpm rtf scr sct sln sql sqlite svg swf sys tar tgz tif tiff tmp toml ts txt
	url vb vbe vbs vhd vhdx vmdk wav wim wmv wsf wsh xls xlsb xlsm xlsx xml xsl xz
	yaml yar yara yml`)

// fileOrDomain are endings of files that are top-level domains as well. In
// running text a plain name with one of them is read as a file.
var fileOrDomain = words(`md mov py sh so zip`)
