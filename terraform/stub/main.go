// A provider that has a schema and nothing else: Terraform can check configurations against it and mock its resources.
// What would reach a cloud is refused. The schema lies beside the program, in the form that schema.mjs writes.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6/tf6server"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

type attribute struct {
	Type     json.RawMessage `json:"type"`
	Nested   *nested         `json:"nested_type"`
	Computed bool            `json:"computed"`
	Optional bool            `json:"optional"`
	Required bool            `json:"required"`
}

type nested struct {
	Nesting    string               `json:"nesting_mode"`
	Attributes map[string]attribute `json:"attributes"`
}

type block struct {
	Attributes map[string]attribute `json:"attributes"`
	Blocks     map[string]struct {
		Nesting string `json:"nesting_mode"`
		Block   block  `json:"block"`
		Min     int64  `json:"min_items"`
		Max     int64  `json:"max_items"`
	} `json:"block_types"`
}

type schemas struct {
	Provider    block            `json:"provider"`
	Resources   map[string]block `json:"resources"`
	DataSources map[string]block `json:"data_sources"`
}

func main() {
	program, err := os.Executable()
	if err == nil {
		// A mirror is linked, not copied, into the folders that use it.
		program, err = filepath.EvalSymlinks(program)
	}
	fail(err)
	text, err := os.ReadFile(filepath.Join(filepath.Dir(program), "schema.json"))
	fail(err)
	var read schemas
	fail(json.Unmarshal(text, &read))
	answer := &tfprotov6.GetProviderSchemaResponse{
		Provider:          schema(read.Provider),
		ResourceSchemas:   map[string]*tfprotov6.Schema{},
		DataSourceSchemas: map[string]*tfprotov6.Schema{},
	}
	for name, block := range read.Resources {
		answer.ResourceSchemas[name] = schema(block)
	}
	for name, block := range read.DataSources {
		answer.DataSourceSchemas[name] = schema(block)
	}
	fail(tf6server.Serve("registry.terraform.io/hashicorp/aws", func() tfprotov6.ProviderServer { return &stub{schemas: answer} }))
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "schema-only provider:", err)
		os.Exit(1)
	}
}

func schema(of block) *tfprotov6.Schema {
	return &tfprotov6.Schema{Block: convert(of)}
}

func convert(of block) *tfprotov6.SchemaBlock {
	to := &tfprotov6.SchemaBlock{Attributes: attributes(of.Attributes)}
	for name, inner := range of.Blocks {
		to.BlockTypes = append(to.BlockTypes, &tfprotov6.SchemaNestedBlock{
			TypeName: name,
			Block:    convert(inner.Block),
			Nesting: map[string]tfprotov6.SchemaNestedBlockNestingMode{
				"list":   tfprotov6.SchemaNestedBlockNestingModeList,
				"set":    tfprotov6.SchemaNestedBlockNestingModeSet,
				"map":    tfprotov6.SchemaNestedBlockNestingModeMap,
				"single": tfprotov6.SchemaNestedBlockNestingModeSingle,
			}[inner.Nesting],
			MinItems: inner.Min,
			MaxItems: inner.Max,
		})
	}
	return to
}

func attributes(of map[string]attribute) []*tfprotov6.SchemaAttribute {
	var to []*tfprotov6.SchemaAttribute
	for name, attribute := range of {
		one := &tfprotov6.SchemaAttribute{
			Name: name, Computed: attribute.Computed, Optional: attribute.Optional, Required: attribute.Required,
		}
		if attribute.Nested != nil {
			one.NestedType = &tfprotov6.SchemaObject{
				Attributes: attributes(attribute.Nested.Attributes),
				Nesting: map[string]tfprotov6.SchemaObjectNestingMode{
					"list":   tfprotov6.SchemaObjectNestingModeList,
					"set":    tfprotov6.SchemaObjectNestingModeSet,
					"map":    tfprotov6.SchemaObjectNestingModeMap,
					"single": tfprotov6.SchemaObjectNestingModeSingle,
				}[attribute.Nested.Nesting],
			}
		} else {
			parsed, err := tftypes.ParseJSONType(attribute.Type) //nolint:staticcheck // The form that the schema has.
			fail(err)
			one.Type = parsed
		}
		to = append(to, one)
	}
	return to
}

// stub answers what can be answered from a schema.
type stub struct {
	tfprotov6.ProviderServer
	schemas *tfprotov6.GetProviderSchemaResponse
}

var refused = []*tfprotov6.Diagnostic{{
	Severity: tfprotov6.DiagnosticSeverityError,
	Summary:  "This provider is a schema and nothing else",
	Detail:   "It checks configurations and serves mock_provider; it cannot plan, read or apply.",
}}

func (s *stub) GetMetadata(context.Context, *tfprotov6.GetMetadataRequest) (*tfprotov6.GetMetadataResponse, error) {
	answer := &tfprotov6.GetMetadataResponse{ServerCapabilities: &tfprotov6.ServerCapabilities{}}
	for name := range s.schemas.ResourceSchemas {
		answer.Resources = append(answer.Resources, tfprotov6.ResourceMetadata{TypeName: name})
	}
	for name := range s.schemas.DataSourceSchemas {
		answer.DataSources = append(answer.DataSources, tfprotov6.DataSourceMetadata{TypeName: name})
	}
	return answer, nil
}

func (s *stub) GetProviderSchema(context.Context, *tfprotov6.GetProviderSchemaRequest) (*tfprotov6.GetProviderSchemaResponse, error) {
	return s.schemas, nil
}

func (s *stub) ValidateProviderConfig(_ context.Context, asked *tfprotov6.ValidateProviderConfigRequest) (*tfprotov6.ValidateProviderConfigResponse, error) {
	return &tfprotov6.ValidateProviderConfigResponse{PreparedConfig: asked.Config}, nil
}

func (s *stub) ValidateResourceConfig(_ context.Context, asked *tfprotov6.ValidateResourceConfigRequest) (*tfprotov6.ValidateResourceConfigResponse, error) {
	found, err := readOnly(s.schemas.ResourceSchemas[asked.TypeName], asked.Config)
	return &tfprotov6.ValidateResourceConfigResponse{Diagnostics: found}, err
}

func (s *stub) ValidateDataResourceConfig(_ context.Context, asked *tfprotov6.ValidateDataResourceConfigRequest) (*tfprotov6.ValidateDataResourceConfigResponse, error) {
	found, err := readOnly(s.schemas.DataSourceSchemas[asked.TypeName], asked.Config)
	return &tfprotov6.ValidateDataResourceConfigResponse{Diagnostics: found}, err
}

// readOnly finds values for attributes that only the provider gives: Terraform leaves this question to providers.
func readOnly(of *tfprotov6.Schema, given *tfprotov6.DynamicValue) ([]*tfprotov6.Diagnostic, error) {
	value, err := given.Unmarshal(of.ValueType())
	if err != nil {
		return nil, err
	}
	return readOnlyIn(of.Block, value, tftypes.NewAttributePath())
}

func readOnlyIn(of *tfprotov6.SchemaBlock, value tftypes.Value, at *tftypes.AttributePath) (found []*tfprotov6.Diagnostic, err error) {
	if value.IsNull() || !value.IsKnown() {
		return nil, nil
	}
	var parts map[string]tftypes.Value
	if err := value.As(&parts); err != nil {
		return nil, err
	}
	for _, attribute := range of.Attributes {
		if attribute.Computed && !attribute.Optional && !parts[attribute.Name].IsNull() {
			found = append(found, &tfprotov6.Diagnostic{
				Severity:  tfprotov6.DiagnosticSeverityError,
				Summary:   "Value for a read-only attribute",
				Detail:    fmt.Sprintf("%s is known after apply and cannot be set.", attribute.Name),
				Attribute: at.WithAttributeName(attribute.Name),
			})
		}
	}
	for _, block := range of.BlockTypes {
		inner, at := parts[block.TypeName], at.WithAttributeName(block.TypeName)
		if inner.IsNull() || !inner.IsKnown() {
			continue
		}
		blocks := []tftypes.Value{inner}
		if block.Nesting == tfprotov6.SchemaNestedBlockNestingModeList || block.Nesting == tfprotov6.SchemaNestedBlockNestingModeSet {
			if err := inner.As(&blocks); err != nil {
				return nil, err
			}
		}
		for _, one := range blocks {
			more, err := readOnlyIn(block.Block, one, at)
			if err != nil {
				return nil, err
			}
			found = append(found, more...)
		}
	}
	return found, nil
}

func (s *stub) ConfigureProvider(context.Context, *tfprotov6.ConfigureProviderRequest) (*tfprotov6.ConfigureProviderResponse, error) {
	return &tfprotov6.ConfigureProviderResponse{Diagnostics: refused}, nil
}

func (s *stub) StopProvider(context.Context, *tfprotov6.StopProviderRequest) (*tfprotov6.StopProviderResponse, error) {
	return &tfprotov6.StopProviderResponse{}, nil
}

func (s *stub) GetFunctions(context.Context, *tfprotov6.GetFunctionsRequest) (*tfprotov6.GetFunctionsResponse, error) {
	return &tfprotov6.GetFunctionsResponse{}, nil
}
