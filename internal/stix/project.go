package stix

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"minato.example/tlp"
)

// Projection says what a projected bundle may hold beside what is always in it:
// 攻撃技術情報 that tells of the attacker.
type Projection struct {
	// Label of the report that carries the bundle. Objects and properties that
	// are marked stricter are left out.
	Label tlp.Label
	// Vulnerabilities keeps vulnerability objects and CVE references
	// (脆弱性悪用の情報).
	Vulnerabilities bool
	// FileNames keeps the names of files, which may hold names of people.
	FileNames bool
	// Victim keeps 被害内容・対応情報, identities and what was observed at the
	// victim.
	Victim bool
}

// Project builds a new bundle of those objects and properties that may go. Like
// a projected report it is built from a list: a type, a property or a shape of a
// value that the list below does not have does not go; so there are no custom
// properties, no extensions, no labels, and of external references only the ids
// in CVE, CAPEC and ATT&CK.
//
// A cyber-observable object may be the victim's own: a mail account, a server.
// It goes only when the pattern of an indicator has it too, or when an indicator,
// malware, tool or infrastructure of the attacker leads to it. Infrastructure
// that something targets is the victim's.
//
// References to what does not go are taken out, and an object that is nothing
// without them goes too, until nothing dangles. Markings with a TLP label stay;
// their definitions are fixed by STIX and TLP and are not sent. Statements
// (copyright, terms) are dropped as they name their owner. An object or property
// with any other marking does not go, as nobody here knows what it asks for.
// Free text of what goes stays as it is.
//
// The order of the objects is kept; everything else is canonical (RFC 8785, but
// numbers as they were written), so equal content gives equal bytes. The id of
// the new bundle has the form of a random UUID and is made from the SHA-256 of
// its objects. Projecting twice changes nothing. dropped counts the objects that
// the new bundle lacks; when none is left, out is nil.
//
// The error is that of Scan.
func Project(bundle []byte, p Projection) (out []byte, dropped int, err error) {
	if _, err := Scan(bundle); err != nil {
		return nil, 0, err
	}
	objects, err := split(bundle)
	if err != nil {
		return nil, 0, err
	}
	f := filter{Projection: p, objects: objects, statements: map[string]bool{}}
	f.choose()
	if !p.Victim {
		f.leaveVictims()
	}
	f.settle()
	return f.write()
}

// scope is what must be kept for a type to go.
type scope uint8

const (
	technical scope = iota
	vulnerable
	victim
)

// shape is a type of objects with the properties that may go.
type shape struct {
	scope      scope
	observable bool
	properties map[string]bool // true: the object is nothing without it
}

// shapes are the types that may go. A property that ends in _ref or _refs is a
// reference; the others are texts, numbers, truth values and lists of them,
// but for those that nested names.
var shapes = func() map[string]shape {
	const (
		everywhere = " type! id! spec_version object_marking_refs granular_markings"
		domain     = everywhere + " created modified revoked confidence lang external_references"
	)
	all := map[string]shape{}
	add := func(s scope, observable bool, common, lines string) {
		for line := range strings.SplitSeq(strings.TrimSpace(lines), "\n") {
			kind, list, _ := strings.Cut(strings.TrimSpace(line), " ")
			properties := map[string]bool{}
			for name := range strings.FieldsSeq(list + common) {
				name, must := strings.CutSuffix(name, "!")
				properties[name] = must
			}
			all[kind] = shape{s, observable, properties}
		}
	}
	add(technical, false, domain, `
		attack-pattern name! description aliases kill_chain_phases
		campaign name! description aliases first_seen last_seen objective
		indicator name description indicator_types pattern! pattern_type! pattern_version valid_from valid_until kill_chain_phases
		infrastructure name! description infrastructure_types aliases kill_chain_phases first_seen last_seen
		intrusion-set name! description aliases first_seen last_seen goals resource_level primary_motivation secondary_motivations
		malware name description malware_types is_family aliases kill_chain_phases first_seen last_seen operating_system_refs architecture_execution_envs implementation_languages capabilities sample_refs
		malware-analysis product! version configuration_version modules analysis_engine_version analysis_definition_version submitted analysis_started analysis_ended result_name result sample_ref analysis_sco_refs
		relationship relationship_type! source_ref! target_ref! description start_time stop_time
		threat-actor name! description threat_actor_types aliases roles goals sophistication resource_level primary_motivation secondary_motivations personal_motivations first_seen last_seen
		tool name! description tool_types aliases kill_chain_phases tool_version`)
	add(vulnerable, false, domain, `
		vulnerability name! description`)
	add(victim, false, domain+" created_by_ref", `
		course-of-action name! description
		grouping name description context object_refs!
		identity name! description roles identity_class sectors contact_information
		incident name! description
		location name description latitude longitude precision region country administrative_area city street_address postal_code
		note abstract content! authors object_refs!
		observed-data first_observed last_observed number_observed object_refs!
		opinion explanation authors opinion! object_refs!
		report name! description report_types published object_refs!
		sighting description first_seen last_seen count sighting_of_ref! observed_data_refs where_sighted_refs summary`)
	add(technical, true, everywhere+" defanged", `
		autonomous-system number! name rir
		domain-name value! resolves_to_refs
		email-addr value!
		file hashes size name mime_type magic_number_hex
		ipv4-addr value! belongs_to_refs
		ipv6-addr value! belongs_to_refs
		mutex name!
		software name! cpe swid languages vendor version
		url value!
		windows-registry-key key! values
		x509-certificate hashes is_self_signed version serial_number signature_algorithm issuer validity_not_before validity_not_after subject subject_public_key_algorithm subject_public_key_modulus subject_public_key_exponent`)
	add(victim, true, everywhere+" defanged", `
		directory path! contains_refs
		email-message is_multipart! date content_type from_ref sender_ref to_refs cc_refs message_id subject
		mac-addr value!
		network-traffic start end is_active src_ref dst_ref src_port dst_port protocols! src_byte_count dst_byte_count src_packets dst_packets
		process is_hidden pid created_time cwd command_line opened_connection_refs creator_user_ref image_ref parent_ref child_refs
		user-account user_id account_login account_type display_name is_service_account is_privileged is_disabled`)
	return all
}()

// nested are the properties that hold objects, each with the names that may go.
var nested = map[string]map[string]bool{
	"kill_chain_phases": set("kill_chain_name phase_name"),
	"hashes":            set("MD5 SHA-1 SHA-256 SHA-512 SHA3-256 SHA3-512 SSDEEP TLSH"),
	"values":            set("name data data_type"),
}

// leads are the relationships by which something of the attacker leads to an
// observable that is the attacker's too.
var leads = set("beacons-to communicates-with consists-of controls delivers downloads drops exfiltrates-to has hosts owns uses")

// hits are the relationships whose target is a victim.
var hits = set("compromises impacts targets")

// attackers are the types from which a lead leads.
var attackers = set("attack-pattern campaign indicator infrastructure intrusion-set malware threat-actor tool")

func set(s string) map[string]bool {
	all := make(map[string]bool)
	for word := range strings.FieldsSeq(s) {
		all[word] = true
	}
	return all
}

// labels are the ids of the marking definitions of TLP 2.0 and TLP 1.0 (STIX 2.1
// section 7.2.1.4 and its TLP 2.0 extension), and the id that OpenCTI gives
// AMBER+STRICT in TLP 1.0 form.
var labels = map[string]tlp.Label{
	"marking-definition--94868c89-83c2-464b-929b-a1a8aa3c8487": tlp.Clear,
	"marking-definition--bab4a63c-aed9-4cf5-a766-dfca5abac2bb": tlp.Green,
	"marking-definition--55d920b0-5e8b-4f79-9ee9-91f868d9b421": tlp.Amber,
	"marking-definition--939a9414-2ddd-4d32-a0cd-375ea402b003": tlp.AmberStrict,
	"marking-definition--e828b379-4e03-4974-9ac4-e53a884c97c1": tlp.Red,
	"marking-definition--613f2e26-407d-48c7-9eca-b8e91df99dc9": tlp.Clear,
	"marking-definition--34098fce-860f-48ae-8e50-ebd3cc5e41da": tlp.Green,
	"marking-definition--f88d31f6-486f-44da-b317-01333bde0b82": tlp.Amber,
	"marking-definition--826578e1-40ad-459f-bc73-ede076f81f37": tlp.AmberStrict,
	"marking-definition--5e57c739-391a-4eb3-b6be-7d15ca92d5ed": tlp.Red,
}

// property is one property of an object; value lies in the bundle or is new.
type property struct {
	name  string
	value jsontext.Value
}

// entry is one object of a bundle.
type entry struct {
	kind, id   string
	properties []property
	shape      shape
	goes       bool
}

// split cuts a bundle that Scan has accepted into its objects. Values are
// pieces of the bundle itself.
func split(bundle []byte) (objects []entry, err error) {
	dec := jsontext.NewDecoder(bytes.NewBuffer(bundle))
	each := func(fn func(name string) error) error {
		if _, err := dec.ReadToken(); err != nil {
			return err
		}
		for dec.PeekKind() == '"' {
			t, err := dec.ReadToken()
			if err != nil {
				return err
			}
			if err := fn(t.String()); err != nil {
				return err
			}
		}
		_, err := dec.ReadToken()
		return err
	}
	err = each(func(name string) error {
		if name != "objects" {
			return dec.SkipValue()
		}
		if _, err := dec.ReadToken(); err != nil {
			return err
		}
		for dec.PeekKind() == '{' {
			var e entry
			if err := each(func(name string) error {
				v, err := dec.ReadValue()
				if err != nil {
					return err
				}
				end := dec.InputOffset()
				piece := jsontext.Value(bundle[end-int64(len(v)) : end : end])
				switch name {
				case "type":
					e.kind, _ = text(piece)
				case "id":
					e.id, _ = text(piece)
				}
				e.properties = append(e.properties, property{name, piece})
				return nil
			}); err != nil {
				return err
			}
			objects = append(objects, e)
		}
		_, err := dec.ReadToken()
		return err
	})
	return objects, err
}

// filter holds the objects of a bundle while it is decided which go.
type filter struct {
	Projection
	objects    []entry
	statements map[string]bool // ids of markings that only state something
}

// choose lets the objects go whose type and markings let them, each with the
// properties that may go.
func (f *filter) choose() {
	for i := range f.objects {
		if e := &f.objects[i]; e.kind == "marking-definition" && e.text("definition_type") == "statement" {
			f.statements[e.id] = true
		}
	}
	for i := range f.objects {
		e := &f.objects[i]
		s, known := shapes[e.kind]
		e.shape = s
		if !known || (s.scope == vulnerable && !f.Vulnerabilities) || (s.scope == victim && !f.Victim) {
			continue
		}
		e.goes = f.reduce(e)
	}
}

// reduce leaves of an object what may go and reports whether it may go at all.
func (f *filter) reduce(e *entry) bool {
	covered := map[string]bool{} // properties with a marking that keeps them back
	if v := e.value("granular_markings"); v != nil {
		for _, m := range list(v) {
			fields := members(m)
			mark, marked := text(get(fields, "marking_ref"))
			if _, isLanguage := text(get(fields, "lang")); !marked && isLanguage {
				continue
			}
			if goes, _ := f.mark(mark); goes && marked {
				continue
			}
			selectors := list(get(fields, "selectors"))
			if len(selectors) == 0 {
				return false // it marks something, who knows what
			}
			for _, s := range selectors {
				covered[top(s)] = true
			}
		}
	}
	if v := e.value("object_marking_refs"); v != nil {
		marks := list(v)
		if v.Kind() != '[' {
			return false
		}
		for _, m := range marks {
			mark, _ := text(m)
			if goes, _ := f.mark(mark); !goes {
				return false
			}
		}
	}
	kept := e.properties[:0:0]
	for _, p := range e.properties {
		must, listed := e.shape.properties[p.name]
		if !listed || (e.kind == "file" && p.name == "name" && !f.FileNames) {
			continue
		}
		v := p.value
		switch {
		case covered[p.name]:
			v = nil
		case p.name == "granular_markings":
			continue // below, when it is known what stays
		case p.name == "object_marking_refs":
			v = f.marks(v)
		case p.name == "external_references":
			v = f.references(v)
		case nested[p.name] != nil:
			v = pick(v, nested[p.name])
		case !flat(v):
			v = nil
		}
		if v != nil {
			kept = append(kept, property{p.name, v})
		} else if must {
			return false
		}
	}
	granular := f.granular(e.value("granular_markings"), kept)
	e.properties = kept
	if granular != nil {
		e.properties = append(e.properties, property{"granular_markings", granular})
	}
	for name, must := range e.shape.properties {
		if must && e.value(name) == nil {
			return false
		}
	}
	return true
}

// mark reports whether what carries a marking may go, and whether the marking
// goes with it.
func (f *filter) mark(id string) (goes, stays bool) {
	if l, known := labels[id]; known {
		return tlp.Strictest(l, f.Label) == f.Label && f.Label.Valid(), true
	}
	return f.statements[id], false
}

// marks leaves the labels of a list of marking ids.
func (f *filter) marks(v jsontext.Value) jsontext.Value {
	return keep(v, func(m jsontext.Value) jsontext.Value {
		if id, _ := text(m); labels[id] == tlp.Unlabelled {
			return nil
		}
		return m
	})
}

// granular leaves the labels and languages of those properties that stay. A
// selector into a property marks all of it afterwards: its entries may have
// moved.
func (f *filter) granular(v jsontext.Value, kept []property) jsontext.Value {
	if v == nil {
		return nil
	}
	return keep(v, func(m jsontext.Value) jsontext.Value {
		fields := members(m)
		name := "marking_ref"
		mark, marked := text(get(fields, name))
		if !marked {
			name = "lang"
		} else if labels[mark] == tlp.Unlabelled {
			return nil
		}
		var selectors []string
		for _, s := range list(get(fields, "selectors")) {
			if t := top(s); slices.ContainsFunc(kept, func(p property) bool { return p.name == t }) && !slices.Contains(selectors, t) {
				selectors = append(selectors, t)
			}
		}
		value := get(fields, name)
		if len(selectors) == 0 || value.Kind() != '"' {
			return nil
		}
		out := append(jsontext.Value(`{"`+name+`":`), value...)
		out = append(out, `,"selectors":["`+strings.Join(selectors, `","`)+`"]}`...)
		return out
	})
}

// references are the ids in public catalogues: nothing else of a reference goes.
func (f *filter) references(v jsontext.Value) jsontext.Value {
	return keep(v, func(r jsontext.Value) jsontext.Value {
		fields := members(r)
		source, _ := text(get(fields, "source_name"))
		id, _ := text(get(fields, "external_id"))
		form, known := catalogues[source]
		if !known || !form.MatchString(id) || (source == "cve" && !f.Vulnerabilities) {
			return nil
		}
		return jsontext.Value(`{"external_id":"` + id + `","source_name":"` + source + `"}`)
	})
}

// catalogues are the public ones, with the form of their ids.
var catalogues = func() map[string]*regexp.Regexp {
	attack := regexp.MustCompile(`^[A-Z]{1,2}[0-9]{4}(\.[0-9]{3})?$`)
	return map[string]*regexp.Regexp{
		"cve":                  regexp.MustCompile(`^CVE-[0-9]{4}-[0-9]{4,19}$`),
		"capec":                regexp.MustCompile(`^CAPEC-[0-9]{1,6}$`),
		"mitre-attack":         attack,
		"mitre-ics-attack":     attack,
		"mitre-mobile-attack":  attack,
		"mitre-pre-attack":     attack,
		"mitre-attack-ics":     attack,
		"mitre-attack-mobile":  attack,
		"mitre-attack-pattern": attack,
	}
}()

// leaveVictims takes out what may be the victim's: infrastructure that
// something targets, and observables without anything of the attacker that has
// or leads to them.
func (f *filter) leaveVictims() {
	hit := map[string]bool{}
	known := map[Observable]bool{}
	for i := range f.objects {
		switch e := &f.objects[i]; {
		case !e.goes:
		case e.kind == "relationship" && hits[e.text("relationship_type")]:
			hit[e.text("target_ref")] = true
		case e.kind == "indicator" && e.text("pattern_type") == "stix":
			for _, o := range inPattern(e.text("pattern")) {
				known[o] = true
			}
		}
	}
	attacker := map[string]bool{}    // ids of what leads to more
	observable := map[string][]int{} // by id; a bundle may hold versions of one
	for i := range f.objects {
		e := &f.objects[i]
		e.goes = e.goes && !(e.kind == "infrastructure" && hit[e.id])
		if e.goes && e.shape.observable {
			observable[e.id] = append(observable[e.id], i)
		}
		attacker[e.id] = attacker[e.id] || e.goes && attackers[e.kind]
	}

	shown := map[string]bool{}
	var next []string
	show := func(id string) {
		if len(observable[id]) > 0 && !shown[id] {
			shown[id] = true
			next = append(next, id)
		}
	}
	for i := range f.objects {
		switch e := &f.objects[i]; {
		case !e.goes:
		case e.shape.observable:
			if slices.ContainsFunc(e.observables(), func(o Observable) bool { return known[o] }) {
				show(e.id)
			}
		case e.kind != "relationship":
			e.eachRef(show)
		case leads[e.text("relationship_type")] && attacker[e.text("source_ref")]:
			show(e.text("target_ref"))
		}
	}
	for len(next) > 0 { // what an observable of the attacker refers to is the attacker's
		id := next[0]
		next = next[1:]
		for _, i := range observable[id] {
			f.objects[i].eachRef(show)
		}
	}
	for i := range f.objects {
		e := &f.objects[i]
		e.goes = e.goes && (!e.shape.observable || shown[e.id])
	}
}

// settle takes out the objects that are nothing without what does not go, until
// that takes out no more, and then every reference to what does not go. Each
// reference is looked at twice, however long the chains are.
func (f *filter) settle() {
	there := map[string]int{} // objects that go, by id
	for i := range f.objects {
		if e := &f.objects[i]; e.goes {
			there[e.id]++
		}
	}
	type need struct{ object, left int }
	var needs []need
	waiting := map[string][]int{} // needs by the id that they have left
	var gone []int
	for i := range f.objects {
		e := &f.objects[i]
		for _, p := range e.properties {
			if !e.goes || !e.shape.properties[p.name] || !isReference(p.name) {
				continue
			}
			n := need{object: i}
			eachID(p.value, func(id string) {
				if there[id] > 0 {
					n.left++
					waiting[id] = append(waiting[id], len(needs))
				}
			})
			if n.left == 0 {
				gone = append(gone, i)
			}
			needs = append(needs, n)
		}
	}
	for len(gone) > 0 {
		e := &f.objects[gone[0]]
		gone = gone[1:]
		if !e.goes {
			continue
		}
		e.goes = false
		if there[e.id]--; there[e.id] > 0 {
			continue
		}
		for _, n := range waiting[e.id] {
			if needs[n].left--; needs[n].left == 0 {
				gone = append(gone, needs[n].object)
			}
		}
	}
	for i := range f.objects {
		e := &f.objects[i]
		kept := e.properties[:0]
		for _, p := range e.properties {
			if e.goes && isReference(p.name) {
				p.value = keepIDs(p.value, func(id string) bool { return there[id] > 0 })
			}
			if p.value != nil {
				kept = append(kept, p)
			}
		}
		e.properties = kept
	}
}

// isReference reports the properties that name other objects of the bundle.
func isReference(name string) bool {
	return name != "object_marking_refs" && (strings.HasSuffix(name, "_ref") || strings.HasSuffix(name, "_refs"))
}

// write writes the new bundle.
func (f *filter) write() (out []byte, dropped int, err error) {
	objects := []byte{'['}
	var object jsontext.Value
	for i := range f.objects {
		e := &f.objects[i]
		if !e.goes {
			dropped++
			continue
		}
		object = append(object[:0], '{')
		for i, p := range e.properties {
			if i > 0 {
				object = append(object, ',')
			}
			object = append(object, `"`+p.name+`":`...)
			object = append(object, p.value...)
		}
		object = append(object, '}')
		if err := object.Canonicalize(jsontext.CanonicalizeRawInts(false), jsontext.CanonicalizeRawFloats(false)); err != nil {
			return nil, 0, err
		}
		if len(objects) > 1 {
			objects = append(objects, ',')
		}
		objects = append(objects, object...)
	}
	objects = append(objects, ']')
	if dropped == len(f.objects) {
		return nil, dropped, nil
	}
	out = append(out, `{"id":"bundle--`+uuidOf(objects)+`","objects":`...)
	out = append(out, objects...)
	return append(out, `,"type":"bundle"}`...), dropped, nil
}

// uuidOf makes the form of a random UUID (RFC 9562 version 4) of a hash.
func uuidOf(b []byte) string {
	sum := sha256.Sum256(b)
	sum[6] = sum[6]&0x0f | 0x40
	sum[8] = sum[8]&0x3f | 0x80
	h := hex.EncodeToString(sum[:16])
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
}

// value finds a property; nil when the object has none.
func (e *entry) value(name string) jsontext.Value { return get(e.properties, name) }

// text is the value of a property that is text.
func (e *entry) text(name string) string {
	s, _ := text(e.value(name))
	return s
}

// eachRef hands out the ids to which the object refers.
func (e *entry) eachRef(fn func(id string)) {
	for _, p := range e.properties {
		if isReference(p.name) {
			eachID(p.value, fn)
		}
	}
}

// observables are the values of an observable object by which a pattern can
// find it; for a file those are its hashes.
func (e *entry) observables() []Observable {
	o := object{kind: e.kind, value: e.text("value")}
	for _, m := range members(e.value("hashes")) {
		value, _ := text(m.value)
		o.hashes = append(o.hashes, hash{m.name, value})
	}
	return o.observables()
}

// text reads a string.
func text(v jsontext.Value) (string, bool) {
	if v.Kind() != '"' {
		return "", false
	}
	s, err := jsontext.AppendUnquote(nil, v)
	return string(s), err == nil
}

// list reads the entries of an array.
func list(v jsontext.Value) (entries []jsontext.Value) {
	if v.Kind() != '[' {
		return nil
	}
	dec := jsontext.NewDecoder(bytes.NewBuffer(v))
	_, _ = dec.ReadToken()
	for dec.PeekKind() != ']' {
		entry, err := dec.ReadValue()
		if err != nil {
			return nil
		}
		entries = append(entries, entry.Clone())
	}
	return entries
}

// members reads the members of an object.
func members(v jsontext.Value) (all []property) {
	if v.Kind() != '{' {
		return nil
	}
	dec := jsontext.NewDecoder(bytes.NewBuffer(v))
	_, _ = dec.ReadToken()
	for dec.PeekKind() == '"' {
		name, err := dec.ReadToken()
		if err != nil {
			return nil
		}
		key := name.String()
		value, err := dec.ReadValue()
		if err != nil {
			return nil
		}
		all = append(all, property{key, value.Clone()})
	}
	return all
}

func get(all []property, name string) jsontext.Value {
	for _, p := range all {
		if p.name == name {
			return p.value
		}
	}
	return nil
}

// top is the property that a selector of a granular marking leads into.
func top(selector jsontext.Value) string {
	s, _ := text(selector)
	name, _, _ := strings.Cut(s, ".")
	return name
}

// keep builds an array of what fn makes of each entry, without those of which
// it makes nil. An empty array is nil.
func keep(v jsontext.Value, fn func(jsontext.Value) jsontext.Value) jsontext.Value {
	var out jsontext.Value
	for _, entry := range list(v) {
		if entry = fn(entry); entry != nil {
			out = append(append(out, ','), entry...)
		}
	}
	if out == nil {
		return nil
	}
	out[0] = '['
	return append(out, ']')
}

// keepIDs leaves of one reference or of a list of them the ids that fn accepts.
func keepIDs(v jsontext.Value, fn func(id string) bool) jsontext.Value {
	one := func(v jsontext.Value) jsontext.Value {
		if id, ok := text(v); ok && fn(id) {
			return v
		}
		return nil
	}
	if v.Kind() == '[' {
		return keep(v, one)
	}
	return one(v)
}

// eachID hands out one id or a list of them.
func eachID(v jsontext.Value, fn func(id string)) {
	if id, ok := text(v); ok {
		fn(id)
	}
	for _, one := range list(v) {
		if id, ok := text(one); ok {
			fn(id)
		}
	}
}

// pick leaves the named members of an object, or of each object of an array, as
// far as they are flat.
func pick(v jsontext.Value, names map[string]bool) jsontext.Value {
	if v.Kind() == '[' {
		return keep(v, func(one jsontext.Value) jsontext.Value { return pick(one, names) })
	}
	var out jsontext.Value
	for _, m := range members(v) {
		if names[m.name] && flat(m.value) {
			out = append(append(out, `,"`+m.name+`":`...), m.value...)
		}
	}
	if out == nil {
		return nil
	}
	out[0] = '{'
	return append(out, '}')
}

// flat reports texts, numbers, truth values and lists of them.
func flat(v jsontext.Value) bool {
	switch v.Kind() {
	case '"', '0', 't', 'f':
		return true
	case '[':
		for _, one := range list(v) {
			if k := one.Kind(); k == '[' || k == '{' || k == 'n' {
				return false
			}
		}
		return true
	}
	return false
}
