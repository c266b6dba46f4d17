"""Small tools that know no model of Oscar's."""
