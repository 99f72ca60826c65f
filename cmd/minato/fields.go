package main

import (
	"cmp"
	"math"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	pb "minato.example/proto/minato/v1"
)

// fieldNames are the fields of a report as people call them, by their names in
// the proto. They say what a copy lacks.
var fieldNames = map[string]Text{
	"report_id":          {"報告の番号", "report id"},
	"case_id":            {"事案の番号", "case id"},
	"sequence":           {"第何報か", "number"},
	"stage":              {"報の区分", "stage"},
	"lane":               {"訓練か実か", "live or exercise"},
	"reason":             {"連絡の理由", "reason"},
	"legal_basis":        {"根拠法令", "legal basis"},
	"route_choice":       {"連絡経路", "route"},
	"tlp":                {"TLPラベル", "TLP label"},
	"community_id":       {"コミュニティ", "community"},
	"restrictions":       {"取扱制限", "restrictions"},
	"onward_permissions": {"転送の許可", "onward permissions"},
	"classification":     {"格付け", "classification"},
	"recipients":         {"宛先", "recipients"},
	"reporter":           {"情報連絡元・窓口", "reporter and contacts"},
	"title":              {"件名", "title"},
	"summary":            {"概要", "summary"},
	"occurred":           {"発生日時", "time of occurrence"},
	"recognised":         {"認知日時", "time of recognition"},
	"place":              {"発生場所", "place"},
	"information_source": {"検知方法", "how it was found"},
	"event":              {"事象の類型", "type of event"},
	"cause":              {"原因の類型", "type of cause"},
	"impact":             {"業務への影響", "impact on the business"},
	"spread":             {"拡大の可能性", "risk of spread"},
	"affected_systems":   {"攻撃対象システム", "affected systems"},
	"attack_technical":   {"攻撃技術情報", "attack technique"},
	"attack_timeline":    {"攻撃のタイムライン", "timeline of the attack"},
	"response_timeline":  {"対応のタイムライン", "timeline of the response"},
	"response":           {"対応", "response"},
	"others_response":    {"関係機関の応急対応", "response of others"},
	"recovery":           {"復旧状況・見込み", "recovery"},
	"personal_data":      {"個人情報の関与", "personal data"},
	"parallel_notices":   {"他機関への連絡", "notices to other offices"},
	"publication":        {"公表予定", "publication"},
	"consents":           {"同意", "consents"},
	"next_report_time":   {"次報予定", "time of the next report"},
	"attachments":        {"添付", "attachments"},
	"retention_time":     {"保存期間", "retention"},
	"create_time":        {"作成日時", "time of making"},
	"kind":               {"事案か注意喚起か", "incident or notice"},
	"secrecy_regime":     {"法令上の守秘", "duty of secrecy"},
	"derived_from":       {"引用元", "derived from"},
	"relabels":           {"ラベルを変える報告", "report that is relabelled"},

	"attack_technical.stix_bundle":     {"STIXバンドル", "STIX bundle"},
	"attack_technical.vulnerabilities": {"脆弱性", "vulnerabilities"},
	"reporter.contacts":                {"窓口", "contacts"},
	"spread.text":                      {"拡大の説明", "spread in words"},
	"attachments.name":                 {"添付のファイル名", "file names of attachments"},
}

var index = regexp.MustCompile(`\[\d*\]`)

// fieldName is what people call a field. A field inside another is a part of
// it.
func fieldName(path string) Text {
	path = index.ReplaceAllString(path, "")
	if t, ok := fieldNames[path]; ok {
		return t
	}
	if outer, _, nested := strings.Cut(path, "."); nested {
		if t, ok := fieldNames[outer]; ok {
			return textf("%sの一部", "part of the %s", t)
		}
	}
	return Text{plain(path), plain(path)}
}

// fieldList are fields on one line in the order of the report, each name once.
// What belongs to the message and not to what happened, such as the reason or
// the addressees, is left out: it would only make the list longer.
func (a *app) fieldList(paths []string) string {
	paths = slices.DeleteFunc(slices.Clone(paths), ofTheMessage)
	slices.SortStableFunc(paths, func(x, y string) int { return cmp.Compare(fieldOrder(x), fieldOrder(y)) })
	var names []string
	seen := map[string]bool{}
	for _, path := range paths {
		if name := fieldName(path).in(a.lang); !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// fieldOrder is the place of a field in the report; what is none comes last.
func fieldOrder(path string) int {
	outer, _, _ := strings.Cut(index.ReplaceAllString(path, ""), ".")
	if f := (&pb.Report{}).ProtoReflect().Descriptor().Fields().ByName(protoreflect.Name(outer)); f != nil {
		return f.Index()
	}
	return math.MaxInt
}

// ofTheMessage says whether a field tells how a report travels.
func ofTheMessage(path string) bool {
	in := (&pb.Report{}).ProtoReflect().Descriptor()
	var f protoreflect.FieldDescriptor
	for name := range strings.SplitSeq(index.ReplaceAllString(path, ""), ".") {
		if in == nil {
			return false
		}
		if f = in.Fields().ByName(protoreflect.Name(name)); f == nil {
			return false
		}
		in = f.Message()
	}
	class, _ := proto.GetExtension(f.Options(), pb.E_Disclosure).(pb.DisclosureClass)
	return class == pb.DisclosureClass_DISCLOSURE_CLASS_MESSAGE
}
