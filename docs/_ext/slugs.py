def jupyter(text):
    "The anchor that Jupyter gives a heading"
    return text.strip().replace(' ', '-')
