"""A workdir or published weights, opened: networks, parameters, class names, teachers."""
