package minatov1_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	pb "minato.example/proto/minato/v1"
	"minato.example/tlp"
)

// visit hands every field reachable from message to fn, with the class that
// applies to it: its own, else that of the field that holds its message.
func visit(message protoreflect.MessageDescriptor, inherited pb.DisclosureClass, name string,
	fn func(field protoreflect.FieldDescriptor, class pb.DisclosureClass, name string)) {
	fields := message.Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		class := inherited
		if own := classOf(field); own != pb.DisclosureClass_DISCLOSURE_CLASS_UNSPECIFIED {
			class = own
		}
		fieldName := name + "." + string(field.Name())
		fn(field, class, fieldName)
		if nested := field.Message(); nested != nil && nested.ParentFile().Package() == "minato.v1" {
			visit(nested, class, fieldName, fn)
		}
	}
}

func classOf(field protoreflect.FieldDescriptor) pb.DisclosureClass {
	return proto.GetExtension(field.Options(), pb.E_Disclosure).(pb.DisclosureClass)
}

func inFirstReport(field protoreflect.FieldDescriptor) bool {
	return proto.GetExtension(field.Options(), pb.E_FirstReport).(bool)
}

func TestEveryFieldOfAReportHasADisclosureClass(t *testing.T) {
	seen := 0
	visit((&pb.Report{}).ProtoReflect().Descriptor(), pb.DisclosureClass_DISCLOSURE_CLASS_UNSPECIFIED, "Report",
		func(field protoreflect.FieldDescriptor, class pb.DisclosureClass, name string) {
			seen++
			require.NotEqualf(t, pb.DisclosureClass_DISCLOSURE_CLASS_UNSPECIFIED, class,
				"%s: write (disclosure) beside the field in report.proto", name)
		})
	require.Greater(t, seen, 100, "the walk ended early")
}

// A report is walked without a guard against cycles, here and in the checks of
// the hub: it must not contain itself.
func TestAReportDoesNotContainItself(t *testing.T) {
	var walk func(message protoreflect.MessageDescriptor, above []protoreflect.FullName)
	walk = func(message protoreflect.MessageDescriptor, above []protoreflect.FullName) {
		require.NotContains(t, above, message.FullName())
		above = append(above[:len(above):len(above)], message.FullName())
		for i := range message.Fields().Len() {
			if nested := message.Fields().Get(i).Message(); nested != nil {
				walk(nested, above)
			}
		}
	}
	walk((&pb.Report{}).ProtoReflect().Descriptor(), nil)
}

// What a first report must carry cannot sit in a message that it may leave out.
func TestAFirstReportFieldSitsInAFirstReportField(t *testing.T) {
	var walk func(message protoreflect.MessageDescriptor, must bool, name string)
	walk = func(message protoreflect.MessageDescriptor, must bool, name string) {
		for i := range message.Fields().Len() {
			field := message.Fields().Get(i)
			fieldName := name + "." + string(field.Name())
			if inFirstReport(field) {
				require.Truef(t, must, "%s is a first_report field, the message that holds it is not", fieldName)
			}
			if nested := field.Message(); nested != nil && nested.ParentFile().Package() == "minato.v1" {
				walk(nested, inFirstReport(field), fieldName)
			}
		}
	}
	walk((&pb.Report{}).ProtoReflect().Descriptor(), true, "Report")
}

func TestTheZeroOfEveryEnumIsUnspecified(t *testing.T) {
	seen := 0
	check := func(enums protoreflect.EnumDescriptors) {
		for i := range enums.Len() {
			enum := enums.Get(i)
			seen++
			zero := enum.Values().ByNumber(0)
			require.NotNilf(t, zero, "%s has no value 0", enum.FullName())
			require.Truef(t, strings.HasSuffix(string(zero.Name()), "_UNSPECIFIED"), "%s: value 0 is %s", enum.FullName(), zero.Name())
		}
	}
	var messages func(all protoreflect.MessageDescriptors)
	messages = func(all protoreflect.MessageDescriptors) {
		for i := range all.Len() {
			check(all.Get(i).Enums())
			messages(all.Get(i).Messages())
		}
	}
	protoregistry.GlobalFiles.RangeFilesByPackage("minato.v1", func(file protoreflect.FileDescriptor) bool {
		check(file.Enums())
		messages(file.Messages())
		return true
	})
	require.Greater(t, seen, 20, "not all files of the contract are linked")
}

func TestTlpLabelNumbersAndNamesAreThoseOfPackageTlp(t *testing.T) {
	labels := map[pb.TlpLabel]tlp.Label{
		pb.TlpLabel_TLP_LABEL_UNSPECIFIED:  tlp.Unlabelled,
		pb.TlpLabel_TLP_LABEL_CLEAR:        tlp.Clear,
		pb.TlpLabel_TLP_LABEL_GREEN:        tlp.Green,
		pb.TlpLabel_TLP_LABEL_AMBER:        tlp.Amber,
		pb.TlpLabel_TLP_LABEL_AMBER_STRICT: tlp.AmberStrict,
		pb.TlpLabel_TLP_LABEL_RED:          tlp.Red,
	}
	values := pb.TlpLabel(0).Descriptor().Values()
	require.Equal(t, len(labels), values.Len(), "a label was added: add it here and to package tlp")
	for i := range values.Len() {
		value := values.Get(i)
		label, ok := labels[pb.TlpLabel(value.Number())]
		require.Truef(t, ok, "%s", value.Name())
		require.EqualValues(t, value.Number(), label)
		if !label.Valid() {
			require.Zero(t, value.Number())
			require.Empty(t, label.String())
			continue
		}
		name := strings.TrimPrefix(string(value.Name()), "TLP_LABEL_")
		require.Equal(t, "TLP:"+strings.ReplaceAll(name, "_", "+"), label.String())
	}
}
